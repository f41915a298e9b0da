"""Load an index version into its collection, and verify what is there."""

import logging
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection as ChromaCollection

from ragjob.errors import DependencyError
from ragjob.ledger.passages import Passages
from ragjob.retrieval.chroma.collection import (
    REQUEST_BYTES,
    State,
    connect,
    create,
    find,
    is_complete,
    is_ours,
    set_state,
    state,
)
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.session import NotThereError, ServerFailedError, shown

log = logging.getLogger(__name__)

TRIES = 3
# At each request the server reads its log anew, about 30 us a row, from where the index was last written to disk: the
# start. So few requests, but each well within a deadline.
WRITE_ROWS = 4_000
PROBES = 256  # rows that are searched for
FOUND = 0.97  # share of those that are found, at the least: usually all, in a torn index few
STORED, NEAR = 1e-5, 1e-4  # how far off stored numbers, and similarities of halves, may be


def is_loaded(target: Target, expected: Expected, passages: Passages) -> bool:
    """Whether the collection holds all rows of the version, and finds a sample of them.

    One that should but doesn't is marked as torn. Raises `DataError` if the collection of that name isn't this
    index's, `DependencyError` when the server doesn't answer.
    """
    chroma = find(target, expected)
    if chroma is None or state(chroma) != State.READY:
        return False
    with suppress(ServerFailedError):
        if is_complete(chroma, expected) and _finds(chroma, passages):
            return True
    _mark_torn(chroma, expected)
    return False


def load(target: Target, expected: Expected, passages: Passages, progress: Callable[[int], None]) -> None:
    """Fill the collection with an index version's rows, verify it, and only then mark it ready.

    `progress` is told the number of rows that are in so far. What an interrupted load wrote is kept; a collection
    that is torn, fails its verification or isn't this index's is built anew.

    Raises `DependencyError` when the server doesn't answer or each verification fails.
    """
    api = connect(target, expected.count)
    for _ in range(TRIES):
        chroma = _usable(api, expected)
        if _fill(chroma, expected, passages, progress):
            set_state(chroma, expected, State.READY)
            return
        _mark_torn(chroma, expected)
    raise DependencyError(
        f"chroma.url: {shown(target.url)} lost rows of {expected.name}, or didn't find them, {TRIES} times: "
        "see its log and disk space, or give it an empty data folder"
    )


def _usable(api: FastAPI, expected: Expected) -> ChromaCollection:
    """The collection as it is, or a new one in place of one that is torn or another index's."""
    chroma = create(api, expected)
    if is_ours(chroma, expected) and state(chroma) != State.TORN:
        return chroma
    log.warning("collection is torn or belongs to another index: building it anew", extra={"collection": expected.name})
    with suppress(NotThereError):
        api.delete_collection(expected.name)
    return create(api, expected)


def _mark_torn(chroma: ChromaCollection, expected: Expected) -> None:
    log.warning("collection is torn: it will be built anew", extra={"collection": expected.name})
    with suppress(NotThereError):  # gone already
        set_state(chroma, expected, State.TORN)


def _fill(chroma: ChromaCollection, expected: Expected, passages: Passages, progress: Callable[[int], None]) -> bool:
    """Write the rows that are missing; true when the collection then holds all and finds a sample of them."""
    try:
        _write(chroma, passages, progress)
        return chroma.count() == expected.count and _finds(chroma, passages)
    except (ServerFailedError, NotThereError) as error:
        log.warning("%s", error)
        return False


def _write(chroma: ChromaCollection, passages: Passages, progress: Callable[[int], None]) -> None:
    """Write the rows that are missing."""
    rows = min(WRITE_ROWS, chroma._client.get_max_batch_size(), max(1, REQUEST_BYTES // _row_bytes(passages.dimension)))
    for start in range(0, len(passages), rows):
        some = slice(start, start + rows)
        _write_missing(chroma, passages.row_ids[some].astype(str).tolist(), passages.vectors(some))
        progress(min(start + rows, len(passages)))


def _row_bytes(dimension: int) -> int:
    """Bytes of a row in a request, at most: the vector is base64 of float32, the id and punctuation take the rest."""
    return 4 * dimension * 4 // 3 + 200


def _write_missing(chroma: ChromaCollection, ids: list[str], vectors: np.ndarray) -> None:
    """Add the rows that aren't there.

    Not an upsert: the server skips an `add` of a row that it has, as when the first answer was lost; to write it
    a second time would take it five times as long.
    """
    there = set(chroma.get(ids=ids, include=[])["ids"])
    missing = [row for row, row_id in enumerate(ids) if row_id not in there]
    if missing:
        chroma.add(ids=[ids[row] for row in missing], embeddings=vectors[missing])


def _finds(chroma: ChromaCollection, passages: Passages) -> bool:
    """Whether a sample of rows is stored as the index has it, and a search for the vector of each finds it.

    How many of its neighbours a search finds says nothing: with random vectors, a sound index finds half of them.
    """
    count = min(PROBES, len(passages))
    rows = np.random.default_rng().choice(len(passages), count, replace=False)
    vectors = passages.vectors(rows)
    # A vector of zeros has no direction to be found by.
    rows, vectors = rows[vectors.any(axis=1)], vectors[vectors.any(axis=1)]
    if not len(rows):
        return True
    ids = passages.row_ids[rows].astype(str).tolist()
    there = chroma.get(ids=ids, include=["embeddings"])
    stored = dict(zip(there["ids"], there["embeddings"], strict=True))
    if stored.keys() != set(ids) or not np.allclose([stored[row_id] for row_id in ids], vectors, atol=STORED):
        return False
    answers = chroma.query(query_embeddings=vectors, n_results=1, include=[])["ids"]
    nearest = passages.find([row_id for answer in answers for row_id in answer])
    if len(nearest) < len(rows) or nearest.min() < 0:
        return False
    # A row whose vector is the same will do.
    as_near = np.einsum("ij,ij->i", passages.vectors(nearest) - vectors, vectors) >= -NEAR
    return bool(as_near.mean() >= FOUND)
