"""Cut documents into chunks."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import pyarrow as pa

from ragjob import schema
from ragjob.documents.chunking import Splitter, WordCounter
from ragjob.documents.settings import Chunk
from ragjob.models.files import Source
from ragjob.models.tokenizer import open_tokenizer
from ragjob.schema import MAX_TEXT_CHARS
from ragjob.stages.columns import Stage
from ragjob.stages.rows import attempt, foreign, row_error

# (text, error) of one chunk: one of the two is set, or the text is "" beside the error.
Piece = tuple[str | None, str | None]


def make(settings: Chunk, model: Source) -> "ChunkStage":
    """A stage that measures with the tokenizer of `model`."""
    return ChunkStage(settings, _counter(model) if settings.strategy == "tokens" else None)


@lru_cache(maxsize=1)  # a worker makes its stages anew for each block
def _counter(model: Source) -> WordCounter:
    return WordCounter(open_tokenizer(model))


class ChunkStage(Stage):
    """Cut by `line`, or by `tokens`: at paragraph, sentence or word boundaries within `size` tokens.

    Takes one row a document, gives one a chunk, and one with an error for what can't be embedded; the text of that is
    "" when the document holds nothing, else null.
    """

    NAME = "chunk"
    NEEDS = schema.columns(schema.DOCUMENT_ID, schema.URI, schema.TEXT, schema.ERROR)
    ADDS = schema.columns(schema.CHUNK_ID, schema.CHUNK_INDEX)

    def __init__(self, settings: Chunk, counter: WordCounter | None) -> None:
        self._min_chars = settings.min_chars
        self._split: Callable[[str], Iterable[str]] = _lines
        if counter:
            self._split = Splitter(counter, settings.size, settings.overlap).split

    def __call__(self, documents: pa.Table) -> pa.Table:
        columns: dict[str, list[object]] = {name: [] for name in schema.CHUNKS.names}
        for document in documents.to_pylist():
            pieces, name = self._pieces(document), document[schema.DOCUMENT_ID]
            count = len(pieces)
            chunks = {
                schema.CHUNK_ID: schema.chunk_ids(name, range(count), [text or "" for text, _ in pieces]),
                schema.DOCUMENT_ID: [name] * count,
                schema.URI: [document[schema.URI]] * count,
                schema.CHUNK_INDEX: range(count),
                schema.TEXT: [text for text, _ in pieces],
                schema.ERROR: [error for _, error in pieces],
            }
            for column, values in columns.items():
                values.extend(chunks[column])
        return pa.table(columns, schema.CHUNKS)

    def _pieces(self, document: dict[str, str]) -> list[Piece]:
        text, error = document[schema.TEXT], document[schema.ERROR]
        if error:
            return [("" if text == "" else None, error)]
        texts = attempt(lambda: self._cut(text))
        if isinstance(texts, Exception):
            return [(None, row_error(texts, document[schema.DOCUMENT_ID]))]
        return [_piece(text) for text in texts] or [("", f"no passage of more than {self._min_chars} characters")]

    def _cut(self, text: str) -> list[str]:
        with foreign():
            passages = list(self._split(text))
        return [passage for passage in passages if len(passage) > self._min_chars]


def _piece(text: str) -> Piece:
    if len(text) <= MAX_TEXT_CHARS:
        return text, None
    return None, f"passage has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]
