"""Metrics of ranked lists, on arrays: each gives one number per query, from 0 to 1.

`hits` is a matrix of queries and ranks, best rank first: whether the item at that rank is relevant. `relevant` is the
number of relevant items of each query, at least 1, whether they were retrieved or not. Lists may be shorter than the
cutoff `k`. The figures are those of ir-measures (R@k, RR and nDCG@k) for binary relevance.
"""

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def find_hits(ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]]) -> Hits:
    """The matrix of hits of ranked ids. An id at several ranks counts only at the first.

    >>> find_hits([["a", "b", "a"], ["c"]], [{"a"}, {"d"}]).astype(int).tolist()
    [[1, 0, 0], [0, 0, 0]]
    """
    hits = np.zeros((len(ranked), max(map(len, ranked), default=0)), np.bool_)
    for row, ids, wanted in zip(hits, ranked, relevant, strict=True):
        first_ranks = {name: rank for rank, name in reversed(list(enumerate(ids))) if name in wanted}
        row[list(first_ranks.values())] = True
    return hits


def recall(hits: Hits, relevant: Counts, k: int) -> Values:
    """Share of the relevant items that are among the first `k`."""
    return np.asarray(hits[:, :k].sum(axis=1) / relevant, np.float64)


def reciprocal_rank(hits: Hits) -> Values:
    """1 / rank of the first relevant item; 0 where none was retrieved."""
    ranks = np.arange(1, hits.shape[1] + 1)
    return np.asarray((hits / ranks).max(axis=1, initial=0), np.float64)


def ndcg(hits: Hits, relevant: Counts, k: int) -> Values:
    """Discounted gain of the first `k` items by that of an ideal order (Järvelin and Kekäläinen 2002)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(relevant, k) - 1]
    first = hits[:, :k]
    return np.asarray(first @ discounts[: first.shape[1]] / ideal, np.float64)
