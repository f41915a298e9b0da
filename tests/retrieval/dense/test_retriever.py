"""Searches with a filter, against brute force over the same passages; no question here asks Chroma."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragjob.ledger.passages import Passages
from ragjob.retrieval import exact, filters
from ragjob.retrieval.base import Hit
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.retrieval.ranking import DECIMALS
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition, condition_of
from tests.passages import make_passages

TOP_K = 3
NO_COLLECTION = cast("Collection", None)


def draw(count: int, seed: int, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def search(passages: Passages, questions: np.ndarray, wheres: Sequence[dict[str, Any]], **more: Any) -> list[list[Hit]]:
    names = dict.fromkeys(name for where in wheres for name in where)
    retriever = DenseRetriever(NO_COLLECTION, passages, Retrieval(top_k=TOP_K, where=names, **more))
    conditions: list[Condition | None] = [condition_of(where, {}) for where in wheres]
    return retriever.search(["?"] * len(questions), questions, conditions)


def chunk_ids(hits: list[list[Hit]]) -> list[list[str]]:
    return [[hit.passage.chunk_id for hit in row] for row in hits]


def brute_force(vectors: np.ndarray, question: np.ndarray, passing: np.ndarray) -> list[str]:
    """Ids of the best chunks among those that pass."""
    near = np.round(vectors.astype(np.float16).astype(np.float32) @ question, DECIMALS)
    ranked = sorted(np.flatnonzero(passing), key=lambda number: (-near[number], number))
    return [f"id-{number:04}" for number in ranked[:TOP_K]]


@pytest.mark.parametrize("every", [1, 2, 10, 100, 3000])
def test_a_filter_gives_what_brute_force_does(every: int) -> None:
    vectors, questions = draw(3000, 0), draw(40, 1)
    passing = np.arange(3000) % every == 0
    passages = make_passages(vectors, [{"open": bool(passes)} for passes in passing])
    hits = search(passages, questions, [{"open": True}] * 40)
    assert chunk_ids(hits) == [brute_force(vectors, question, passing) for question in questions]


def test_filters_that_overlap_give_what_brute_force_does() -> None:
    vectors, questions = draw(3000, 2), draw(40, 3)
    passages = make_passages(vectors, [{"number": number % 50} for number in range(3000)])
    wheres = [{"number": list(range(first, 50))} for first in range(40)]
    hits = search(passages, questions, wheres)
    passing = [np.isin(np.arange(3000) % 50, where["number"]) for where in wheres]
    assert chunk_ids(hits) == [brute_force(vectors, *about) for about in zip(questions, passing, strict=True)]


def test_ten_thousand_prompts_each_see_their_tenants_passages_alone() -> None:
    tenants = np.random.default_rng(4).integers(0, 2000, 6000)
    passages = make_passages(draw(6000, 4), [{"tenant": f"tenant {tenant}"} for tenant in tenants])
    asking = np.random.default_rng(5).integers(0, 2000, 10_000)
    hits = search(passages, draw(10_000, 6), [{"tenant": f"tenant {tenant}"} for tenant in asking])
    seen = [{tenants[int(chunk[3:])] for chunk in row} for row in chunk_ids(hits)]
    there = np.bincount(tenants, minlength=2000)
    assert seen == [{tenant} if there[tenant] else set() for tenant in asking]
    assert [len(row) for row in hits] == np.minimum(there[asking], TOP_K).tolist()


@settings(max_examples=60, deadline=None)
@given(
    metadata=st.lists(
        st.sampled_from([None, {}, {"a": 1}, {"a": 2, "b": "x"}, {"b": "x"}, {"b": ["x", "y"]}]), min_size=8
    ),
    wheres=st.lists(
        st.sampled_from(
            [{"a": 1}, {"a": [1, 2]}, {"a": None}, {"b": "y"}, {"a": 2, "b": "x"}, {"a": None, "b": None}, {"b": "z"}]
        ),
        min_size=1,
    ),
    share=st.integers(1, 3),
)
def test_no_passage_that_doesnt_pass_is_found_and_each_that_passes_counts(
    metadata: list[dict[str, Any] | None], wheres: list[dict[str, Any]], share: int
) -> None:
    rows = draw(len(metadata), 7)[::share].repeat(share, axis=0)[: len(metadata)]
    hits = search(make_passages(rows, metadata, share), draw(len(wheres), 8), wheres)
    expected = [expected_hits([passes(about or {}, where) for about in metadata], share) for where in wheres]
    seen = [{(hit.passage.chunk_id, hit.passage.equals) for hit in row} for row in hits]
    assert [row - there for row, there in zip(seen, expected, strict=True)] == [set()] * len(wheres)
    assert [len(row) for row in hits] == [min(TOP_K, len(there)) for there in expected]


def expected_hits(passing: list[bool], share: int) -> set[tuple[str, int]]:
    """Of each row with a chunk that passes, the first such chunk's id, and how many there are."""
    rows = [np.flatnonzero(passing[first : first + share]) + first for first in range(0, len(passing), share)]
    return {(f"id-{members[0]:04}", len(members)) for members in rows if len(members)}


def passes(about: dict[str, Any], where: dict[str, Any]) -> bool:
    """The plainest filter there is, for the values of the test above."""
    has = {name: about.get(name) if isinstance(about.get(name), list) else [about.get(name)] for name in where}
    return all(set(value if isinstance(value, list) else [value]) & set(has[name]) for name, value in where.items())


def test_of_a_shared_row_the_first_chunk_that_passes_is_the_hit() -> None:
    tenants = [{"tenant": name} for name in ("a", "b", "b", "a", "c", "c")]
    passages = make_passages(draw(2, 9).repeat(3, axis=0), tenants, share=3)
    hits = search(passages, draw(3, 10), [{"tenant": "b"}, {"tenant": "c"}, {"tenant": ["b", "c"]}])
    seen = [sorted((hit.passage.chunk_id, hit.passage.equals) for hit in row) for row in hits]
    assert seen == [[("id-0001", 2)], [("id-0004", 2)], [("id-0001", 2), ("id-0004", 2)]]


def test_hits_of_equal_similarity_are_in_order_of_the_ids_that_pass() -> None:
    vectors = np.concatenate([draw(1, 11)] * 5 + [draw(2000, 12)])
    hits = search(make_passages(vectors, [{"odd": number % 2} for number in range(2005)]), vectors[:1], [{"odd": 1}])
    assert chunk_ids(hits)[0][:2] == ["id-0001", "id-0003"]


def test_hits_below_min_score_are_left_out() -> None:
    vectors = draw(50, 13)
    passages = make_passages(vectors, [{"open": True}] * 50)
    assert chunk_ids(search(passages, vectors[:1], [{"open": True}], min_score=0.99)) == [["id-0000"]]


def test_what_was_selected_is_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    passages = make_passages(draw(100, 14), [{"number": number} for number in range(100)])
    monkeypatch.setattr(filters, "CACHED_BYTES", 10 * filters.ENTRY_BYTES)
    made = filters.Filters(passages, ["number"])
    conditions = [condition_of({"number": number}, {}) for number in range(100)]
    selections = [made.select(condition) for condition in conditions]
    assert selections[99] is made.select(conditions[99])
    assert selections[0] is not made.select(conditions[0])
    assert made.select(conditions[0]).rows.tolist() == [0]


def test_a_selection_says_which_rows_pass() -> None:
    passages = make_passages(draw(4, 15), [{"a": 1}, {"a": 2}, None, {"a": 1}])
    selection = filters.Filters(passages, ["a"]).select(condition_of({"a": 1}, {}))
    assert np.isin(np.arange(4), selection.rows).tolist() == [True, False, False, True]


def test_rows_are_compared_in_blocks_that_hold_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 16 * 600)
    blocks = [range(block.start, block.stop) for block in exact._blocks(3000, 16)]
    assert [number for block in blocks for number in block] == list(range(3000))
    assert max(map(len, blocks)) == 600
