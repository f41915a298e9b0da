"""Which files of the corpus, of the prompts and of other tables are read."""

from collections.abc import Iterator

import pyarrow as pa

from ragjob import storage
from ragjob.documents.readers import DOCUMENTS, PROMPTS, TABLES, is_read, prompt_reader
from ragjob.documents.readers.base import segment_rows
from ragjob.documents.settings import Corpus
from ragjob.storage.names import matches

UNREAD = "no reader for this extension"
NOT_INCLUDED = "not in corpus.include"
EXCLUDED = "in corpus.exclude"


def list_corpus(uri: str, corpus: Corpus) -> storage.Listing:
    """List the corpus at `uri`. Raises as `storage.list_inputs` does."""

    def refuse(path: str) -> str | None:
        if any(matches(path, pattern) for pattern in corpus.exclude):
            return EXCLUDED
        if corpus.include and not any(matches(path, pattern) for pattern in corpus.include):
            return NOT_INCLUDED
        return None if is_read(path, DOCUMENTS) else UNREAD

    return storage.list_inputs(uri, refuse, "corpus.uri")


def list_documents(uri: str, key: str) -> storage.Listing:
    """List the documents at `uri`, the value of the argument `key`. Raises as `storage.list_inputs` does."""
    return storage.list_inputs(uri, lambda path: None if is_read(path, DOCUMENTS) else UNREAD, key)


def list_prompts(uri: str) -> storage.Listing:
    """List the prompts at `uri`. Raises as `storage.list_inputs` does."""
    return storage.list_inputs(uri, lambda path: None if is_read(path, PROMPTS) else UNREAD, "prompts.uri")


def read_tables(uri: str, key: str) -> Iterator[tuple[str, pa.Table]]:
    """The uri and the rows of each table at `uri`, the value of the option `key`, in one or several pieces.

    The rows have the columns that `TableReader.decode` describes. Raises as `storage.list_inputs` does, and `DataError`
    for a file that can't be read.
    """
    for entry in storage.list_inputs(uri, lambda path: None if is_read(path, TABLES) else UNREAD, key).entries:
        reader = prompt_reader(entry.path)
        with storage.naming(key):
            for segment in reader.segments(entry):
                yield entry.uri, segment_rows(reader, entry.uri, entry.tag, segment.group, None)
