"""Which files of the corpus, of the prompts and of other tables are read."""

from ragjob import storage
from ragjob.documents.readers import DOCUMENTS, PROMPTS, TABLES, is_read
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


def list_tables(uri: str, key: str) -> storage.Listing:
    """List the tables at `uri`, the value of the setting or option `key`. Raises as `storage.list_inputs` does."""
    return storage.list_inputs(uri, lambda path: None if is_read(path, TABLES) else UNREAD, key)
