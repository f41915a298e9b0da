"""Two scores made one."""

import numpy as np
import pytest

from ragjob.retrieval.hybrid.fusion import convex, reciprocal_ranks

COSINES, BM25 = np.array([0.6, 0.2, -1.0], np.float32), np.array([0.0, 5.0, 10.0], np.float32)


def test_a_convex_score_weighs_each_sides_share_of_its_best() -> None:
    expected = [0.3 * 0 + 0.7 * 1, 0.3 * 0.5 + 0.7 * 1.2 / 1.6, 0.3 * 1 + 0.7 * 0]
    np.testing.assert_allclose(convex(COSINES, BM25, 0.3), expected, rtol=1e-6)


def test_a_side_that_found_nothing_gives_nothing() -> None:
    np.testing.assert_allclose(convex(COSINES, np.zeros(3, np.float32), 0.2), [0.8, 0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(convex(-np.ones(3, np.float32), BM25, 0.2), [0, 0.1, 0.2], rtol=1e-6)


def test_reciprocal_ranks_add_up_and_a_passage_without_a_word_has_none() -> None:
    np.testing.assert_allclose(reciprocal_ranks(COSINES, BM25), [1 / 61, 2 / 62, 1 / 63 + 1 / 61], rtol=1e-6)


@pytest.mark.parametrize("weight", [0, 1])
def test_an_extreme_weight_ranks_by_one_side(weight: float) -> None:
    assert np.argsort(convex(COSINES, BM25, weight)).tolist() == [[2, 1, 0], [0, 1, 2]][weight]


def test_no_candidates_have_no_scores() -> None:
    none = np.zeros(0, np.float32)
    assert len(convex(none, none, 0.2)) == len(reciprocal_ranks(none, none)) == 0
