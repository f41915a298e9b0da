"""Metrics of ranked lists are those of ir-measures."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from ragjob.evaluation.ranking import Values, find_hits, ndcg, recall, reciprocal_rank

IDS = st.sampled_from("abcdefghijklmnop")
QUERIES = st.lists(st.tuples(st.lists(IDS, max_size=14, unique=True), st.sets(IDS, min_size=1)), min_size=1, max_size=6)
# Both relevant items of the first query are found, at ranks 2 and 3; neither of the second's two; one of the third's.
RANKED = [["x", "a", "b"], ["x", "y", "z"], ["c"]]
RELEVANT = [{"a", "b"}, {"d", "e"}, {"c", "d"}]
COUNTS = np.array([2, 2, 2])
LOG2_3 = 1.584962500721156


def by_ir_measures(measure: ir_measures.Measure, ranked: list[list[str]], relevant: list[set[str]]) -> list[float]:
    """A measure of each query."""
    qrels = [Qrel(str(query), name, 1) for query, ids in enumerate(relevant) for name in ids]
    run = [ScoredDoc(str(query), name, -rank) for query, ids in enumerate(ranked) for rank, name in enumerate(ids)]
    metrics = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
    return [metrics[str(query)] for query in range(len(ranked))]


@given(QUERIES)
def test_metrics_equal_those_of_ir_measures(queries: list[tuple[list[str], set[str]]]) -> None:
    ranked, relevant = [ids for ids, _ in queries], [wanted for _, wanted in queries]
    hits, counts = find_hits(ranked, relevant), np.array(list(map(len, relevant)))
    assert recall(hits, counts, 1) == pytest.approx(by_ir_measures(R @ 1, ranked, relevant))
    assert recall(hits, counts, 10) == pytest.approx(by_ir_measures(R @ 10, ranked, relevant))
    assert reciprocal_rank(hits) == pytest.approx(by_ir_measures(RR, ranked, relevant))
    assert ndcg(hits, counts, 10) == pytest.approx(by_ir_measures(nDCG @ 10, ranked, relevant))


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        (recall(find_hits(RANKED, RELEVANT), COUNTS, 1), [0, 0, 1 / 2]),
        (recall(find_hits(RANKED, RELEVANT), COUNTS, 3), [1, 0, 1 / 2]),
        (reciprocal_rank(find_hits(RANKED, RELEVANT)), [1 / 2, 0, 1]),
        (
            ndcg(find_hits(RANKED, RELEVANT), COUNTS, 10),
            [(1 / LOG2_3 + 1 / 2) / (1 + 1 / LOG2_3), 0, 1 / (1 + 1 / LOG2_3)],
        ),
    ],
)
def test_metrics_equal_those_computed_by_hand(metric: Values, by_hand: list[float]) -> None:
    assert metric == pytest.approx(by_hand)


def test_a_document_that_several_passages_are_of_counts_once_and_they_keep_their_ranks() -> None:
    hits = find_hits([["a", "a", "b"]], [{"a", "b"}])
    assert recall(hits, np.array([2]), 2) == [0.5]
    assert recall(hits, np.array([2]), 3) == [1]


def test_lists_without_a_passage_score_nothing() -> None:
    hits = find_hits([[], []], [{"a"}, {"b"}])
    counts = np.array([1, 1])
    assert [*recall(hits, counts, 3), *reciprocal_rank(hits), *ndcg(hits, counts, 10)] == [0] * 6
