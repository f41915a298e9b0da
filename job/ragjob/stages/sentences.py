"""Embed the sentences of an index's rows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.documents.sentences import one_line, quotable
from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles
from ragjob.ledger.passages import Passages
from ragjob.ledger.sentences import SentenceLedger
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.stages.columns import Stage
from ragjob.stages.embed import EmbedTexts, embed_finite
from ragjob.stages.rows import Columns, add_columns, count_errors, foreign


def make_for_sentences(settings: Embed, model: Source, dtype: str, threads: int) -> "EmbedSentences":
    """A stage that embeds sentences in the dtype of their index."""
    from ragjob.models.embedder import open_embedder  # imports torch, which the driver never needs

    embedder = open_embedder(settings, model, dtype, threads, settings.pool.num_gpus)
    return EmbedSentences(embedder.embed_documents, embedder.dimension)


class ReadRows(Stage):
    """Read the texts of a range of rows."""

    NAME = "read rows"
    NEEDS = schema.ROW_RANGES
    ADDS = schema.ROWS
    DROPS = frozenset(schema.ROW_RANGES.names)

    def __init__(self, files: SegmentFiles) -> None:
        self._passages: Passages = files.open()

    def __call__(self, ranges: pa.Table) -> pa.Table:
        borders = zip(*(ranges[name].to_pylist() for name in schema.ROW_RANGES.names), strict=True)
        rows = [row for first, end in borders for row in range(first, end)]
        return pa.table([rows, self._passages.texts(rows), [None] * len(rows)], schema.ROWS)


class EmbedSentences(Stage):
    """Split each text into the sentences that can be quoted, and embed them, where there are several."""

    NAME = "sentences"
    NEEDS = schema.columns(schema.TEXT, schema.ERROR)
    ADDS = pa.schema([*schema.columns(schema.SPANS), (schema.SENTENCE_VECTORS, pa.list_(pa.list_(pa.float32())))])

    def __init__(self, embed: EmbedTexts, dimension: int) -> None:
        self._embed = embed
        self._dimension = dimension

    def __call__(self, rows: pa.Table) -> pa.Table:
        return add_columns(rows, schema.sentences_embedded(self._dimension), self._compute)

    def _compute(self, rows: pa.Table) -> Columns:
        texts = rows[schema.TEXT].to_pylist()
        with foreign():
            found = list(map(quotable, texts))
        spans = [several if len(several) > 1 else [] for several in found]
        quoted = [one_line(text[a:b]) for text, each in zip(texts, spans, strict=True) for a, b in each]
        return self._columns(spans, embed_finite(self._embed, quoted))

    def _columns(self, spans: list[list[tuple[int, int]]], vectors: npt.NDArray[np.float32]) -> Columns:
        borders = [[{"start": start, "end": end} for start, end in each] for each in spans]
        offsets = pa.array(np.cumsum([0, *map(len, spans)]), pa.int32())
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), self._dimension)
        return {
            schema.SPANS: pa.array(borders, schema.columns(schema.SPANS).types[0]),
            schema.SENTENCE_VECTORS: pa.ListArray.from_arrays(offsets, flat),
        }


class WriteSentences(Stage):
    """Put the sentences of a range of rows as a part. Leaves their errors alone.

    A range of which more rows failed than one, and than the share `max_rate`, isn't put: a rerun embeds it again.
    """

    NAME = "write"
    NEEDS = pa.schema([*schema.columns(schema.ROW), *EmbedSentences.ADDS, *schema.columns(schema.ERROR)])
    DROPS = frozenset({schema.ROW, schema.TEXT, *EmbedSentences.ADDS.names})

    def __init__(self, ledger: SentenceLedger, max_rate: float) -> None:
        self._ledger = ledger
        self._max_rate = max_rate

    def __call__(self, rows: pa.Table) -> pa.Table:
        if count_errors(rows) <= max(1, self._max_rate * rows.num_rows):
            self._ledger.write(rows)
        return rows.select([schema.ERROR])
