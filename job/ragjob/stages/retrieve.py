"""Attach the best passages to each prompt."""

from collections.abc import Sequence

import pyarrow as pa

from ragjob import schema
from ragjob.retrieval.base import Mode, Retriever, Served
from ragjob.retrieval.settings import Retrieval
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, arrays, foreign

# For one actor. Chroma computes a request on one core, so that as many of them are busy.
BLOCKS_AT_ONCE = 4
# What columns say of the passages: the fields of `Passage`.
OF_PASSAGES = {
    schema.RETRIEVED_IDS: "chunk_id",
    schema.RETRIEVED_DOCUMENT_IDS: "document_id",
    schema.RETRIEVED_URIS: "uri",
    schema.RETRIEVED_TITLES: "title",
    schema.RETRIEVED_PAGES: "page",
    schema.RETRIEVED_METADATA: "metadata",
    schema.RETRIEVED_TEXTS: "text",
    schema.RETRIEVED_EQUALS: "equals",
}


def make(mode: Mode[Retrieval], served: Served) -> "RetrieveStage":
    """A stage that searches an index version, once its collection is known to be whole and the right one."""
    return RetrieveStage(mode.make(served))


class RetrieveStage(Stage):
    """Find passages for a block of prompts: lists, best first. Raises `DependencyError` as the retriever does."""

    NAME = "retrieve"
    NEEDS = schema.columns(schema.PROMPT, schema.EMBEDDING, schema.ERROR)
    ADDS = schema.RETRIEVED
    DROPS = frozenset({schema.EMBEDDING})

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return add_columns(prompts, self.ADDS, self._compute).drop_columns(list(self.DROPS))

    def _compute(self, prompts: pa.Table) -> Columns:
        questions = prompts[schema.PROMPT].to_pylist()
        flat = prompts[schema.EMBEDDING].combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(prompts.num_rows, -1)
        with foreign():
            hits = self._retriever.search(questions, vectors)
        values: dict[str, Sequence[object]] = {
            column: [[getattr(hit.passage, field) for hit in found] for found in hits]
            for column, field in OF_PASSAGES.items()
        }
        values[schema.RETRIEVED_SCORES] = [[hit.score for hit in found] for found in hits]
        values[schema.RETRIEVED_SIMILARITIES] = [[hit.similarity for hit in found] for found in hits]
        return arrays(values, self.ADDS)
