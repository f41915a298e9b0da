"""The rows that are nearest to a question: those that Chroma names or, where a filter holds, by comparison with all."""

from ragjob.ledger.passages import Numbers, Passages
from ragjob.retrieval.base import Vectors
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.exact import nearest
from ragjob.retrieval.filters import Selection


class Neighbours:
    """Finds the rows of an index that are nearest to questions. Any number of threads may search."""

    def __init__(self, collection: Collection, passages: Passages, batch_size: int) -> None:
        self._collection = collection
        self._passages = passages
        self._batch_size = batch_size

    def find(self, vectors: Vectors, selections: list[Selection | None], count: int) -> list[Numbers]:
        """At most `count` rows near to each of `vectors` (float32 [n, dimension]), of those that its selection has.

        Chroma's own filters would take far longer than to compare all rows that pass. Raises `DependencyError` when the
        server doesn't answer in time.
        """
        groups: dict[Selection | None, list[int]] = {}
        for number, selection in enumerate(selections):
            groups.setdefault(selection, []).append(number)
        free = groups.pop(None, [])
        found: dict[int, Numbers] = {}
        if free:
            found |= zip(free, self._ask(vectors[free], count), strict=True)
        if groups:
            chosen = [(selection.rows, numbers) for selection, numbers in groups.items() if selection]
            exact = nearest(self._passages, vectors, chosen, count)
            found |= {number: exact[number] for _, numbers in chosen for number in numbers}
        return [found[number] for number in range(len(vectors))]

    def _ask(self, vectors: Vectors, count: int) -> list[Numbers]:
        """What the server says, but for rows that the index hasn't got."""
        answered = map(self._passages.find, self._collection.nearest(vectors, count, self._batch_size))
        return [rows[rows >= 0] for rows in answered]
