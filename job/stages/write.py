"""Stage finished rows.

NEEDS  for `index`   chunk_id, document_id, uri, text: string; chunk_index: int32; embedding: fixed_size_list<float>
       for `answer`  _position: int64; prompt_id, prompt, answer, finish_reason: string; prompt_tokens,
                     completion_tokens: int32; retrieved_ids, retrieved_uris, retrieved_texts, retrieved_scores: list;
                     the pass-through columns
ADDS   nothing; leaves only error, for the receipt
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
