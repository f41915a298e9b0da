from dataclasses import replace

import numpy as np
import pytest

from ragjob.evaluation.tuning import CANDIDATES, DENSE, HYBRID, LEXICAL, Candidates, Setting, tune

QUESTIONS, ROWS = 200, 30
NOW = Setting(DENSE)


def ranks(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, axis=1), axis=1).astype(np.int32)


def candidates(dense_noise: float, lexical_noise: float, *, seed: int = 0) -> Candidates:
    """Questions whose relevant row is the best on a side but for the side's noise."""
    rng = np.random.default_rng(seed)
    relevant = np.full((QUESTIONS, ROWS), -1, np.int32)
    relevant[np.arange(QUESTIONS), rng.integers(0, ROWS, QUESTIONS)] = 0
    signal = (relevant == 0).astype(np.float32)
    similarities = (0.3 * signal + dense_noise * rng.standard_normal(signal.shape)).astype(np.float32)
    bm25 = np.maximum(0, 5 * signal + lexical_noise * rng.standard_normal(signal.shape)).astype(np.float32)
    counts = np.ones(QUESTIONS, np.int64)
    return Candidates(similarities, None, bm25, ranks(similarities), ranks(bm25), relevant, counts)


def test_the_side_that_tells_is_taken() -> None:
    assert tune(candidates(0.01, 50), NOW).best == NOW
    assert tune(candidates(5, 0.1), NOW).best.mode == LEXICAL


def test_two_sides_that_each_tell_something_are_fused() -> None:
    tuning = tune(candidates(0.15, 2.5), NOW)
    assert tuning.best.mode == HYBRID
    assert tuning.metrics["recall@1"] > tuning.current_metrics["recall@1"] + 0.05
    mean, low, high = tuning.gain
    assert 0 < low < mean < high
    assert len(tuning.chosen) == 5


def test_what_is_gained_by_chance_isnt_reported_as_a_gain() -> None:
    """Of rows drawn at random, the best of all settings looks better than it is: the folds show that it isn't."""
    gains = [tune(candidates(1, 1000, seed=seed), NOW).gain for seed in range(10)]
    assert sum(low > 0 for _, low, _ in gains) <= 1


def test_sentences_are_tried_where_there_are_any() -> None:
    without = candidates(0.15, 50)
    better = replace(without, with_sentences=without.similarities + (without.relevant == 0))
    assert not tune(without, NOW).best.sentences
    assert tune(better, NOW).best.sentences


def test_an_item_of_several_rows_counts_at_the_first_alone() -> None:
    scores = np.array([[0.9, 0.8, 0.7]], np.float32)
    twice = Candidates(scores, None, scores * 0, ranks(scores), ranks(scores), np.array([[0, 0, -1]]), np.array([1]))
    metrics = tune(twice, NOW).current_metrics
    assert (metrics["recall@1"], metrics["recall@10"], metrics["ndcg@10"]) == pytest.approx((1, 1, 1))


def test_rows_beyond_the_candidates_of_a_side_arent_found_there() -> None:
    scores = np.array([[0.9, 0.8]], np.float32)
    far = np.array([[0, max(CANDIDATES)]], np.int32)
    nothing = np.full((1, 2), np.iinfo(np.int32).max, np.int32)
    only_far = Candidates(scores, None, scores * 0, far, nothing, np.array([[-1, 0]]), np.array([1]))
    assert tune(only_far, NOW).current_metrics["recall@10"] == 0
