"""Stage finished rows.

NEEDS  index: chunk_id, document_id, uri, chunk_index, text, embedding, error
       answer: _position, prompt_id, prompt, pass-through, retrieved and generated columns, error
ADDS   nothing: leaves only error, for the receipt
"""

import pyarrow as pa

from job import schema
from job.ledger import IndexLedger, RunLedger


class WriteChunks:
    """Put a block of embedded chunks, whole documents, as parts of an index version."""

    def __init__(self, ledger: IndexLedger) -> None:
        self._ledger = ledger

    def __call__(self, chunks: pa.Table) -> pa.Table:
        self._ledger.write(chunks)
        return chunks.select([schema.ERROR])


class WriteAnswers:
    """Put a block of answers, with what they came from, as parts of a run."""

    def __init__(self, ledger: RunLedger, columns: pa.Schema, provenance: tuple[str, ...]) -> None:
        self._ledger = ledger
        self._columns = pa.schema([(schema.POSITION, pa.int64()), *columns])
        self._provenance = provenance

    def __call__(self, prompts: pa.Table) -> pa.Table:
        for name, value in zip(schema.PROVENANCE.names, self._provenance, strict=True):
            prompts = prompts.append_column(name, pa.repeat(value, prompts.num_rows))
        self._ledger.write(prompts.select(self._columns.names).cast(self._columns))
        return prompts.select([schema.ERROR])
