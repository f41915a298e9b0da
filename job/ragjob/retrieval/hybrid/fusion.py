"""Fuse two scores into one: how similar a passage is to a question, and the words that both share."""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]

RANK_CONSTANT = 60  # Cormack, Clarke and Büttcher, SIGIR 2009


def convex(similarities: Scores, bm25: Scores, weight: float) -> Scores:
    """The weighted sum of both, each as a share of its question's best: from 0 to 1. `weight` is that of BM25.

    Both are of one question, [n], or of several, [questions, n].

    Shares begin at the lowest value that a side can have, -1 for a cosine and 0 for BM25; a side whose best is no
    higher gives 0. After Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023.

    >>> convex(np.array([1, 0.5, 0]), np.array([0, 2, 4]), 0.2)
    array([0.8, 0.7, 0.6], dtype=float32)
    """
    return np.asarray(weight * _shares(bm25) + (1 - weight) * _shares(similarities + 1), np.float32)


def reciprocal_ranks(similarities: Scores, bm25: Scores) -> Scores:
    """The sum of 1 / (60 + rank) over both sides; a passage without words of the question has no rank in BM25.

    >>> reciprocal_ranks(np.array([1, 0.5, 0]), np.array([0, 2, 4])).round(4)
    array([0.0164, 0.0323, 0.0323], dtype=float32)
    """
    ranked = 1 / (RANK_CONSTANT + _ranks(similarities)) + np.where(bm25 > 0, 1 / (RANK_CONSTANT + _ranks(bm25)), 0)
    return np.asarray(ranked, np.float32)


def _shares(values: Scores) -> Scores:
    best = values.max(axis=-1, initial=0, keepdims=True)
    return np.asarray(values / np.where(best > 0, best, 1) * (best > 0))


def _ranks(values: Scores) -> npt.NDArray[np.int64]:
    """Ranks from 1; equal values have the same."""
    return np.searchsorted(-np.sort(values)[::-1], -values) + 1
