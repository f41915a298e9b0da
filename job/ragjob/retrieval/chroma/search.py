"""Search a loaded collection."""

from typing import Any

import numpy as np
from chromadb.api.models.Collection import Collection as ChromaCollection

from ragjob.errors import DataError
from ragjob.retrieval.base import Hit
from ragjob.retrieval.chroma.collection import REQUEST_BYTES, find, is_complete
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.session import NotThereError, shown
from ragjob.schema import URI

TIES = 4  # candidates beyond top_k where the last ones are of equal score, and are put in order of their ids
NUMBER_BYTES = 24  # of a vector in a query, which is text, unlike in a load

_Row = tuple[list[float], list[str], list[dict[str, Any]], list[str]]  # distances, ids, metadatas, texts


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

    def search(self, vectors: np.ndarray, top_k: int, min_score: float | None, batch_size: int) -> list[list[Hit]]:
        """Passages for each of `vectors` (float32 [n, dimension]): at most `top_k`, best first.

        Hits below `min_score` are left out; scores equal to five decimals are in order of chunk_id. A request
        carries at most `batch_size` vectors.

        Raises `DependencyError` when the server doesn't answer in time or has lost the collection.
        """
        size = max(1, min(batch_size, REQUEST_BYTES // (NUMBER_BYTES * vectors.shape[1])))
        parts = [vectors[start : start + size] for start in range(0, len(vectors), size)]
        return [hits for part in parts for hits in self._ask(part, top_k, min_score)]

    def _ask(self, vectors: np.ndarray, top_k: int, min_score: float | None) -> list[list[Hit]]:
        rows = self._nearest(vectors, top_k + 1)
        tied = [number for number, row in enumerate(rows) if _is_tied(row, top_k)]
        if tied:
            for number, row in zip(tied, self._nearest(vectors[tied], top_k + TIES), strict=True):
                rows[number] = row
        return [_best(row, top_k, min_score) for row in rows]

    def _nearest(self, vectors: np.ndarray, count: int) -> list[_Row]:
        try:
            found = self._chroma.query(
                query_embeddings=vectors, n_results=count, include=["distances", "metadatas", "documents"]
            )
        except NotThereError as error:
            raise NotThereError(
                f"index.collection: {self._chroma.name} went while it was searched: run the same command again, "
                "which loads it, and let the server keep its data"
            ) from error
        columns = (found[name] for name in ("distances", "ids", "metadatas", "documents"))
        return list(zip(*columns, strict=True))


def _is_tied(row: _Row, top_k: int) -> bool:
    """Whether what comes after the nearest `top_k` may belong among them."""
    distances = row[0]
    return len(distances) > top_k and round(distances[top_k], 5) == round(distances[top_k - 1], 5)


def _best(row: _Row, top_k: int, min_score: float | None) -> list[Hit]:
    ranked = sorted(zip([round(distance, 5) for distance in row[0]], row[1], *row, strict=True))[:top_k]
    return [
        Hit(chunk_id, fields[URI], text, 1.0 - distance)
        for _, _, distance, chunk_id, fields, text in ranked
        if min_score is None or 1.0 - distance >= min_score
    ]
