from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.stages.rerank import RerankStage

LISTS = {name: ["a", "b", "c"] for name in schema.RETRIEVED.names}
NUMBERS = {schema.RETRIEVED_PAGES: [1, 2, 3], schema.RETRIEVED_EQUALS: [4, 5, 6]}
SIMILARITIES = {schema.RETRIEVED_SIMILARITIES: [0.5, 0.25, 0.125], schema.RETRIEVED_SCORES: [0.75, 0.5, 0.25]}
SENTENCES = [[{"start": 0, "end": place, "similarity": 0.5}] for place in range(3)]


def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """A passage that the question names scores 1, another 0."""
    if any(question == "poison" for question, _ in pairs):
        raise RuntimeError("CUDA error")
    return np.array([float(text in question) for question, text in pairs], np.float32)


def prompts(*questions: str, passage_count: int = 3) -> pa.Table:
    one = LISTS | NUMBERS | SIMILARITIES | {schema.SENTENCES: SENTENCES}
    rows = [
        {schema.PROMPT: question, schema.ERROR: None} | {name: values[:passage_count] for name, values in one.items()}
        for question in questions
    ]
    return pa.Table.from_pylist(rows, RerankStage.NEEDS)


def test_the_best_passages_come_first_with_all_that_is_known_of_them() -> None:
    ranked = RerankStage(score, 2)(prompts("c", "a b")).to_pylist()
    assert ranked[0] == {
        schema.PROMPT: "c",
        schema.ERROR: None,
        **{name: ["c", "a"] for name in LISTS},
        schema.RETRIEVED_PAGES: [3, 1],
        schema.RETRIEVED_EQUALS: [6, 4],
        schema.RETRIEVED_SIMILARITIES: [0.125, 0.5],
        schema.RETRIEVED_SCORES: [1, 0],
        schema.SENTENCES: [SENTENCES[2], SENTENCES[0]],
    }
    assert ranked[1][schema.RETRIEVED_IDS] == ["a", "b"]


def test_a_prompt_without_passages_stays_without() -> None:
    ranked = RerankStage(score, 2)(prompts("a", passage_count=0))
    assert ranked.select(schema.RETRIEVED.names).to_pylist() == [{name: [] for name in schema.RETRIEVED.names}]


def test_a_prompt_that_cant_be_scored_is_an_error_while_its_neighbours_stay() -> None:
    ranked = RerankStage(score, 1)(prompts("a", "poison", "c"))
    assert ranked[schema.ERROR].to_pylist() == [None, "RuntimeError: CUDA error", None]
    assert ranked[schema.RETRIEVED_TEXTS].to_pylist() == [["a"], None, ["c"]]
