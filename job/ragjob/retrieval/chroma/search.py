"""Search a loaded collection."""

from collections.abc import Iterator

import numpy as np
from chromadb.api.models.Collection import Collection as ChromaCollection

from ragjob.errors import DataError
from ragjob.retrieval.chroma.collection import REQUEST_BYTES, find, is_complete
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.session import NotThereError, shown

NUMBER_BYTES = 24  # of a vector in a query, which is text, unlike in a load


def open_collection(target: Target, expected: Expected) -> "Collection":
    """The loaded collection of an index version.

    Raises `DataError` when it isn't loaded whole or the name is another index's, `DependencyError` when the
    server doesn't answer.
    """
    chroma = find(target, expected)
    if chroma is None or not is_complete(chroma, expected):
        raise DataError(
            f"index.collection: {expected.name} on {shown(target.url)} isn't loaded with all "
            f"{expected.count} rows: run `ragjob load`"
        )
    return Collection(chroma)


class Collection:
    """A loaded collection, to be searched from any number of threads."""

    def __init__(self, chroma: ChromaCollection) -> None:
        self._chroma = chroma

    def nearest(self, vectors: np.ndarray, count: int, batch_size: int) -> Iterator[list[str]]:
        """Ids of the rows near to each of `vectors` (float32 [n, dimension]): at most `count`, best first.

        A request carries at most `batch_size` vectors, and is sent when the first of its results is wanted.

        Raises `DependencyError` when the server doesn't answer in time or has lost the collection.
        """
        size = max(1, min(batch_size, REQUEST_BYTES // (NUMBER_BYTES * vectors.shape[1])))
        for start in range(0, len(vectors), size):
            yield from self._ask(vectors[start : start + size], count)

    def _ask(self, vectors: np.ndarray, count: int) -> list[list[str]]:
        try:
            return list(self._chroma.query(query_embeddings=vectors, n_results=count, include=[])["ids"])
        except NotThereError as error:
            raise NotThereError(
                f"index.collection: {self._chroma.name} disappeared during the search; keep the server's data, "
                "and run the same command again to reload it"
            ) from error
