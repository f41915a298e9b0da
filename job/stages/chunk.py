"""Cut documents into chunks.

NEEDS  document_id, uri, text, error: string, one row a document
ADDS   chunk_id: string; chunk_index: int32; one row a chunk, and one with an error for what can't be embedded
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import pyarrow as pa

from job import schema
from job.config import Chunk
from job.models.files import Source
from job.models.tokenizer import open_tokenizer
from job.schema import MAX_TEXT_CHARS
from job.stages.rows import describe
from job.stages.splitter import Splitter, WordCounter

NO_TEXT = "no passage of more than"  # begins the error of a document that is empty, or nearly
# (text, error) of one chunk: one of the two is set.
Piece = tuple[str | None, str | None]


def make(settings: Chunk, model: Source) -> "ChunkStage":
    """A stage that measures with the tokenizer of `model`."""
    return ChunkStage(settings, _counter(model) if settings.strategy == "tokens" else None)


@lru_cache(maxsize=1)  # a worker makes its stages anew for each block
def _counter(model: Source) -> WordCounter:
    return WordCounter(open_tokenizer(model))


class ChunkStage:
    """Cut by `line`, or by `tokens`: at paragraph, sentence or word boundaries within `size` tokens."""

    def __init__(self, settings: Chunk, counter: WordCounter | None) -> None:
        self._min_chars = settings.min_chars
        self._split: Callable[[str], Iterable[str]] = _lines
        if counter:
            self._split = Splitter(counter, settings.size, settings.overlap).split

    def __call__(self, documents: pa.Table) -> pa.Table:
        columns: dict[str, list[object]] = {name: [] for name in schema.CHUNKS.names}
        for document in documents.to_pylist():
            pieces = list(self._pieces(document))
            texts, errors = zip(*pieces, strict=True)
            count = len(pieces)
            ids = schema.chunk_ids(document[schema.DOCUMENT_ID], range(count), [text or "" for text in texts])
            row = (ids, [document[schema.DOCUMENT_ID]] * count, [document[schema.URI]] * count)
            for column, values in zip(columns.values(), (*row, range(count), texts, errors), strict=True):
                column.extend(values)
        return pa.table(columns, schema.CHUNKS)

    def _pieces(self, document: dict[str, str]) -> Iterator[Piece]:
        if document[schema.ERROR]:
            yield None, document[schema.ERROR]
            return
        try:
            texts = [text for text in self._split(document[schema.TEXT]) if len(text) > self._min_chars]
        except Exception as error:  # noqa: BLE001 - whatever the splitter throws is this document's error
            yield None, describe(error)
            return
        if not texts:
            yield None, f"{NO_TEXT} {self._min_chars} characters"
        for text in texts:
            too_long = f"passage has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}"
            yield (None, too_long) if len(text) > MAX_TEXT_CHARS else (text, None)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]
