"""Attach the best passages to each prompt."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ragjob.documents.tables import json_values
from ragjob.ledger import schema
from ragjob.retrieval.base import Hit, Mode, Retriever, Served
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition, Where, columns_of, condition_of, is_missing
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
    return RetrieveStage(mode.make(served), mode.settings.where)


class RetrieveStage(Stage):
    """Find passages for a block of prompts: lists, best first. Raises `DependencyError` as the retriever does.

    A prompt without a value in a column that the filter `where` names has an error: no search is unfiltered.
    """

    NAME = "retrieve"
    NEEDS = schema.columns(schema.PROMPT, schema.EMBEDDING, schema.ERROR)
    ADDS = pa.schema([*schema.RETRIEVED, *schema.columns(schema.SENTENCES)])
    DROPS = frozenset({schema.EMBEDDING})

    def __init__(self, retriever: Retriever, where: Where) -> None:
        self._retriever = retriever
        self._where = where

    def __call__(self, prompts: pa.Table) -> pa.Table:
        refused = prompts
        for name in columns_of(self._where):
            refused = _without_value(refused, name)
        return add_columns(refused, self.ADDS, self._compute).drop_columns(list(self.DROPS))

    def _compute(self, prompts: pa.Table) -> Columns:
        questions = prompts[schema.PROMPT].to_pylist()
        flat = prompts[schema.EMBEDDING].combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(prompts.num_rows, -1)
        conditions = self._conditions(prompts)
        with foreign():
            hits = self._retriever.search(questions, vectors, conditions)
        values: dict[str, Sequence[object]] = {
            column: [[getattr(hit.passage, field) for hit in prompt_hits] for prompt_hits in hits]
            for column, field in OF_PASSAGES.items()
        }
        values[schema.RETRIEVED_SCORES] = [[hit.score for hit in prompt_hits] for prompt_hits in hits]
        values[schema.RETRIEVED_SIMILARITIES] = [[hit.similarity for hit in prompt_hits] for prompt_hits in hits]
        values[schema.SENTENCES] = [_sentences(prompt_hits) for prompt_hits in hits]
        return arrays(values, self.ADDS)

    def _conditions(self, prompts: pa.Table) -> list[Condition | None]:
        if not self._where:
            return [None] * prompts.num_rows
        values = {name: json_values(prompts[name]) for name in columns_of(self._where)}
        rows = [{name: column[row] for name, column in values.items()} for row in range(prompts.num_rows)]
        return [condition_of(self._where, row) for row in rows]


def _without_value(prompts: pa.Table, name: str) -> pa.Table:
    """The prompts, with an error where there is no value in a column that a filter names."""
    missing = pa.array([is_missing(value) for value in json_values(prompts[name])], pa.bool_())
    message = f"{name} is null, but retrieve.where takes a value from it; give the prompt one"
    errors = pc.coalesce(prompts[schema.ERROR], pc.if_else(missing, message, None))
    return prompts.set_column(prompts.schema.get_field_index(schema.ERROR), schema.ERROR, errors)


def _sentences(hits: list[Hit]) -> list[list[dict[str, object]]] | None:
    """The sentences of each passage; None where they aren't embedded."""
    sentences = [hit.sentences for hit in hits]
    return None if None in sentences else [[sentence._asdict() for sentence in of_one or []] for of_one in sentences]
