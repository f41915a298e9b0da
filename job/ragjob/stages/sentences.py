"""Embed the sentences of chunks."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.documents.sentences import one_line, quotable
from ragjob.ledger import schema
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import StagedSentences
from ragjob.stages.columns import Stage
from ragjob.stages.embed import EmbeddingStage, embed_finite
from ragjob.stages.rows import Columns, add_columns, foreign

ROWS_AT_ONCE = 512  # of a block: their sentences are in memory as float32


class ReadPart(Stage):
    """Read the chunks of a settled part, which the block names."""

    NAME = "read part"
    NEEDS = schema.PARTS
    ADDS = schema.columns(schema.DOCUMENT_ID, schema.TEXT, schema.ERROR)

    def __init__(self, ledger: SegmentLedger) -> None:
        self._ledger = ledger

    def __call__(self, parts: pa.Table) -> pa.Table:
        (name,) = parts[schema.PART].to_pylist()
        chunks = self._ledger.read(name, [schema.DOCUMENT_ID, schema.TEXT])
        columns = [pa.repeat(name, chunks.num_rows), *chunks.columns, pa.nulls(chunks.num_rows, pa.string())]
        return pa.table(columns, pa.schema([*self.NEEDS, *self.ADDS]))


class EmbedSentences(EmbeddingStage):
    """Split each chunk's text into the sentences that can be quoted, and embed them, where there are several.

    Where that fails, both columns are null, and the chunk has no error: it can be found by its own embedding.
    """

    NAME = "sentences"
    NEEDS = schema.columns(schema.DOCUMENT_ID, schema.TEXT, schema.ERROR)
    ADDS = schema.OF_SENTENCES

    def __call__(self, chunks: pa.Table) -> pa.Table:
        columns = schema.sentences_embedded(self._dimension)
        needed = chunks.select(self.NEEDS.names)
        starts = range(0, max(1, chunks.num_rows), ROWS_AT_ONCE)
        slices = (needed.slice(start, ROWS_AT_ONCE) for start in starts)
        embedded = pa.concat_tables([add_columns(rows, columns, self._compute) for rows in slices])
        for column in columns:
            chunks = chunks.append_column(column, embedded[column.name])
        return chunks

    def _compute(self, chunks: pa.Table) -> Columns:
        texts = chunks[schema.TEXT].to_pylist()
        with foreign():
            quotes = list(map(quotable, texts))
        spans = [several if len(several) > 1 else [] for several in quotes]
        sentences = [one_line(text[a:b]) for text, borders in zip(texts, spans, strict=True) for a, b in borders]
        return self._arrays(spans, embed_finite(self._embed, sentences))

    def _arrays(self, spans: list[list[tuple[int, int]]], vectors: npt.NDArray[np.float32]) -> Columns:
        borders = [[{"start": start, "end": end} for start, end in of_text] for of_text in spans]
        offsets = pa.array(np.cumsum([0, *map(len, spans)]), pa.int32())
        half = pa.array(vectors.ravel().astype(np.float16))
        flat = pa.FixedSizeListArray.from_arrays(half, self._dimension)
        return {
            schema.SPANS: pa.array(borders, schema.OF_SENTENCES.field(schema.SPANS).type),
            schema.SENTENCE_VECTORS: pa.ListArray.from_arrays(offsets, flat),
        }


class WriteSentences(Stage):
    """Put the sentences of a settled part."""

    NAME = "write"
    NEEDS = pa.schema([*schema.PARTS, *schema.OF_SENTENCES, *schema.columns(schema.ERROR)])
    DROPS = frozenset({*ReadPart.NEEDS.names, *ReadPart.ADDS.names, *EmbedSentences.ADDS.names}) - {schema.ERROR}

    def __init__(self, staged: StagedSentences) -> None:
        self._staged = staged

    def __call__(self, chunks: pa.Table) -> pa.Table:
        self._staged.write(chunks[schema.PART][0].as_py(), chunks)
        return chunks.select([schema.ERROR])
