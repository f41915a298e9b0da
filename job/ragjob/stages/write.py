"""Stage finished rows."""

import pyarrow as pa

from ragjob.ledger import schema
from ragjob.ledger.run import RunLedger
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import StagedSentences
from ragjob.stages.columns import Stage

_ANSWERED = [name for name in schema.answers(pa.schema([])).names if name not in schema.PROVENANCE.names]


class WriteChunks(Stage):
    """Put a block of embedded chunks, whole documents, as parts of a segment. Leaves their errors alone."""

    NAME = "write"
    NEEDS = schema.columns(*schema.CHUNKS.names, schema.EMBEDDING)
    DROPS = frozenset(NEEDS.names) - {schema.ERROR}

    def __init__(self, ledger: SegmentLedger) -> None:
        self._ledger = ledger

    def __call__(self, chunks: pa.Table) -> pa.Table:
        self._ledger.write(chunks)
        return chunks.select([schema.ERROR])


class WriteChunksAndSentences(Stage):
    """The same, with the sentences of each part beside it."""

    NAME = WriteChunks.NAME
    NEEDS = pa.schema([*WriteChunks.NEEDS, *schema.OF_SENTENCES])
    DROPS = WriteChunks.DROPS | {*schema.OF_SENTENCES.names}

    def __init__(self, ledger: SegmentLedger, sentences: StagedSentences) -> None:
        self._ledger = ledger
        self._sentences = sentences

    def __call__(self, chunks: pa.Table) -> pa.Table:
        self._ledger.write(chunks, self._sentences.write)
        return chunks.select([schema.ERROR])


class WriteAnswers(Stage):
    """Put a block of answers, with what they came from, as parts of a run. Leaves their errors alone.

    Pass-through columns, which depend on the prompts, are among `columns`, those of `answers.parquet`.
    """

    NAME = "write"
    NEEDS = schema.columns(schema.POSITION, *_ANSWERED)
    DROPS = frozenset({*NEEDS.names, schema.CACHED_TOKENS, schema.WRONG_CITATIONS}) - {schema.ERROR}

    def __init__(self, ledger: RunLedger, columns: pa.Schema, provenance: dict[str, str]) -> None:
        self._ledger = ledger
        self._columns = pa.schema([(schema.POSITION, pa.int64()), *columns])
        self._provenance = provenance

    def __call__(self, prompts: pa.Table) -> pa.Table:
        for name, value in self._provenance.items():
            prompts = prompts.append_column(name, pa.repeat(value, prompts.num_rows))
        self._ledger.write(prompts.select(self._columns.names).cast(self._columns))
        return prompts.select([schema.ERROR])
