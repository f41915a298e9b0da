"""The rows that are nearest to a question: found by Chroma or, with a filter, by comparison with all."""

from collections.abc import Iterator

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

    def find(self, vectors: Vectors, selections: list[Selection | None], count: int) -> Iterator[Numbers]:
        """At most `count` rows near to each of `vectors` (float32 [n, dimension]), of those that its selection has.

        The server is asked when the rows are wanted, so it works for one thread while another ranks what it got. Its
        own filters would take far longer than comparing all rows that pass. Raises `DependencyError` when the server
        doesn't answer in time.
        """
        groups: dict[Selection | None, list[int]] = {}
        for number, selection in enumerate(selections):
            groups.setdefault(selection, []).append(number)
        free = groups.pop(None, [])
        chosen = [(selection.rows, numbers) for selection, numbers in groups.items() if selection]
        exact = nearest(self._passages, vectors, chosen, count) if chosen else []
        answers = self._ask(vectors[free], count)
        return (exact[number] if selection else next(answers) for number, selection in enumerate(selections))

    def _ask(self, vectors: Vectors, count: int) -> Iterator[Numbers]:
        """What the server finds, except rows that the index doesn't have.

        It is asked in at least two requests, so other threads get its answers while this one ranks the first half.
        """
        half = max(1, (len(vectors) + 1) // 2)
        for row_ids in self._collection.nearest(vectors, count, min(self._batch_size, half)):
            rows = self._passages.find(row_ids)
            yield rows[rows >= 0]
