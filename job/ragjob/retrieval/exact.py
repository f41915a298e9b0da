"""Find the nearest of some rows by comparison with each of them."""

import numpy as np

from ragjob.ledger.passages import Numbers, Passages
from ragjob.retrieval.base import Vectors

FIRST_ROWS, BLOCK_BYTES = 256, 16 * 2**20  # compared at once: the first ones, and vectors of the most


class _Best:
    """The nearest rows so far, best first, of a number of questions: [questions, count]; -1 where there are fewer."""

    def __init__(self, questions: int, count: int) -> None:
        self.rows = np.full((questions, count), -1)
        self._near = np.full((questions, count), -np.inf, np.float32)

    def offer(self, near: Vectors, rows: Numbers) -> None:
        """Take those of `rows` whose similarities `near`, [questions, rows], are better than what there is."""
        count = self.rows.shape[1]
        questions, columns = np.nonzero(near > self._near[:, -1:])
        if not len(questions):
            return
        asked = np.unique(questions)
        who = np.concatenate([np.repeat(asked, count), questions])
        similarities = np.concatenate([self._near[asked].ravel(), near[questions, columns]])
        which = np.concatenate([self.rows[asked].ravel(), rows[columns]])
        order = np.lexsort((-similarities, who))
        starts = np.searchsorted(who[order], asked)
        best = order[starts[:, None] + np.arange(count)]
        self._near[asked], self.rows[asked] = similarities[best], which[best]


def nearest(passages: Passages, vectors: Vectors, groups: list[tuple[Numbers, list[int]]], count: int) -> list[Numbers]:
    """The `count` nearest rows of each of `vectors` (float32 [n, dimension]), best first, or as many as there are.

    Each of `groups` has candidate rows, ascending, and the numbers of the vectors that they are compared with; each
    vector is in one group.
    """
    nearest_rows = np.full((len(vectors), count), -1)
    if sum(len(rows) for rows, _ in groups) > len(passages):  # to compare all with all is less
        nearest_rows = _among_all(passages, vectors, groups, count)
    else:
        for rows, asked in groups:
            nearest_rows[asked] = _among(passages, vectors[asked], rows, count)
    return [rows[rows >= 0] for rows in nearest_rows]


def _among(passages: Passages, vectors: Vectors, rows: Numbers, count: int) -> Numbers:
    if len(rows) <= count:
        return np.pad(rows, (0, count - len(rows)), constant_values=-1)
    best = _Best(len(vectors), count)
    for block in _blocks(len(rows), passages.dimension):
        best.offer(vectors @ passages.vectors(rows[block]).T, rows[block])
    return best.rows


def _among_all(passages: Passages, vectors: Vectors, groups: list[tuple[Numbers, list[int]]], count: int) -> Numbers:
    best = _Best(len(vectors), count)
    for block in _blocks(len(passages), passages.dimension):
        near = vectors @ passages.vectors(block).T
        for rows, asked in groups:
            first, last = np.searchsorted(rows, (block.start, block.stop))
            left_out = np.full(near.shape[1], -np.inf, np.float32)
            left_out[rows[first:last] - block.start] = 0
            near[asked] += left_out
        best.offer(near, np.arange(block.start, block.start + near.shape[1]))
    return best.rows


def _blocks(count: int, dimension: int) -> list[slice]:
    """Runs of that many rows in all, each as long as those before it together, up to a limit."""
    most = max(FIRST_ROWS, BLOCK_BYTES // (4 * dimension))
    ends = [FIRST_ROWS]
    while ends[-1] < count:
        ends.append(ends[-1] + min(most, ends[-1]))
    return [slice(start, min(end, count)) for start, end in zip([0, *ends], ends, strict=False)]
