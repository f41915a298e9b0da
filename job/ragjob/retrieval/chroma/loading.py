"""Load an index version into its collection, and verify what is there."""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection as ChromaCollection

from ragjob.errors import DataError, DependencyError
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
from ragjob.schema import CHUNK_ID, CHUNK_INDEX, DOCUMENT_ID, EMBEDDING, TEXT, URI

log = logging.getLogger(__name__)

TRIES = 3
# At each request the server reads its log anew, about 30 us a row, from where the index was last written to disk: the
# start. So few requests, but each well within a deadline.
WRITE_ROWS = 4_000
PROBES = 32
FOUND = 0.9  # share of the probes that an approximate search finds, at the least; in a torn index it is few or none
TOLERANCE = 1e-5

Batches = Callable[[], Iterable[pa.Table]]


def is_loaded(target: Target, expected: Expected) -> bool:
    """Whether the collection holds all of the version, verified, and finds a sample of it.

    One that should and doesn't is marked as torn. Raises `DataError` when the collection of that name isn't this
    index's, `DependencyError` when the server doesn't answer.
    """
    chroma = find(target, expected)
    if chroma is None or state(chroma) != State.READY:
        return False
    with suppress(ServerFailedError):
        if is_complete(chroma, expected) and _finds(chroma, _stored_sample(chroma, expected.count)):
            return True
    _mark_torn(chroma, expected)
    return False


def load(target: Target, expected: Expected, batches: Batches, progress: Callable[[int], None]) -> None:
    """Fill the collection from an index version's rows, verify it, and only then mark it ready.

    `batches` gives the rows anew at each call, as tables of CHUNKS without their error, embedded; `progress`
    is told the number of rows that are in so far. What an interrupted load wrote is kept; a collection that
    is torn, fails its verification or isn't this index's is built anew.

    Raises `DataError` when the rows aren't those expected, `DependencyError` when the server doesn't answer or
    each verification fails.
    """
    api = connect(target, expected.count)
    for _ in range(TRIES):
        chroma = _usable(api, expected)
        if _fill(chroma, expected, batches, progress):
            set_state(chroma, expected, State.READY)
            return
        _mark_torn(chroma, expected)
    raise DependencyError(
        f"chroma.url: {shown(target.url)} lost rows of {expected.name} {TRIES} times: "
        "see its log and disk space, or give it an empty data folder"
    )


def _usable(api: FastAPI, expected: Expected) -> ChromaCollection:
    """The collection as far as it is; a new one in place of one that is torn or another's."""
    chroma = create(api, expected)
    if is_ours(chroma, expected) and state(chroma) != State.TORN:
        return chroma
    log.warning("collection is torn or another's: building it anew", extra={"collection": expected.name})
    with suppress(NotThereError):
        api.delete_collection(expected.name)
    return create(api, expected)


def _mark_torn(chroma: ChromaCollection, expected: Expected) -> None:
    log.warning("collection is torn: it will be built anew", extra={"collection": expected.name})
    with suppress(NotThereError):  # gone already
        set_state(chroma, expected, State.TORN)


def _fill(chroma: ChromaCollection, expected: Expected, batches: Batches, progress: Callable[[int], None]) -> bool:
    """Write the rows that are missing; true when the collection then holds all and finds a sample."""
    try:
        sample = _write(chroma, expected, batches(), progress)
        return chroma.count() == expected.count and _finds(chroma, sample)
    except (ServerFailedError, NotThereError) as error:
        log.warning("%s", error)
        return False


def _write(
    chroma: ChromaCollection, expected: Expected, batches: Iterable[pa.Table], progress: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """Write the rows that are missing; a sample of all rows, spread evenly, as vectors by id."""
    sample: dict[str, np.ndarray] = {}
    step = max(1, -(-expected.count // PROBES))
    done = 0
    max_rows = min(WRITE_ROWS, chroma._client.get_max_batch_size())
    for table in _ahead(_requests(batches, expected.dimension, max_rows)):
        ids, vectors = table[CHUNK_ID].to_pylist(), _vectors(table, expected)
        _write_missing(chroma, table, ids, vectors)
        sample |= {ids[row]: vectors[row] for row in range(-done % step, len(ids), step)}
        done += len(ids)
        progress(done)
    if done != expected.count:
        raise DataError(
            f"index.uri: version {expected.version} has {done} rows, its manifest says {expected.count}: "
            "delete that version and run `ragjob index`"
        )
    return sample


def _write_missing(chroma: ChromaCollection, table: pa.Table, ids: list[str], vectors: np.ndarray) -> None:
    """Add the rows that aren't there.

    Not an upsert: the server skips an `add` of a row that it has, as when the first answer was lost; to write it
    a second time would take it five times as long.
    """
    there = set(chroma.get(ids=ids, include=[])["ids"])
    rows = [row for row, chunk_id in enumerate(ids) if chunk_id not in there]
    if not rows:
        return
    missing = table.take(rows)
    chroma.add(
        ids=missing[CHUNK_ID].to_pylist(),
        embeddings=vectors[rows],
        documents=missing[TEXT].to_pylist(),
        metadatas=missing.select([URI, DOCUMENT_ID, CHUNK_INDEX]).to_pylist(),
    )


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same, each read while the server takes the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, tables, None)
        while (table := coming.result()) is not None:
            coming = pool.submit(next, tables, None)
            yield table


def _requests(batches: Iterable[pa.Table], dimension: int, max_rows: int) -> Iterator[pa.Table]:
    """Join and cut `batches` into tables that fit one request each."""
    pending: list[pa.Table] = []
    for batch in batches:
        if sum(table.num_rows for table in [*pending, batch]) > max_rows:
            yield from _pieces(pending, dimension, max_rows)
            pending = []
        pending.append(batch)
    yield from _pieces(pending, dimension, max_rows)


def _pieces(tables: list[pa.Table], dimension: int, max_rows: int) -> Iterator[pa.Table]:
    if not tables:
        return
    joined = pa.concat_tables(tables)
    texts = sum(pc.binary_length(joined[name]).to_numpy() for name in (TEXT, URI, DOCUMENT_ID))
    # In JSON a vector is base64 of float32, a text has at most six bytes for one, names and ids take the rest.
    row_bytes = 6 * texts.astype(np.int64) + 4 * dimension * 4 // 3 + 200
    start = 0
    while start < joined.num_rows:
        fitting = np.searchsorted(np.cumsum(row_bytes[start : start + max_rows]), REQUEST_BYTES, side="right")
        rows = max(1, int(fitting))
        yield joined.slice(start, rows)
        start += rows


def _vectors(table: pa.Table, expected: Expected) -> np.ndarray:
    """The embeddings, float32 [rows, dimension]."""
    flat = table[EMBEDDING].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if flat.size != table.num_rows * expected.dimension:
        raise DataError(
            f"index.uri: version {expected.version} has vectors that aren't of the {expected.dimension} "
            "dimensions in its manifest: delete that version and run `ragjob index`"
        )
    return np.asarray(flat, np.float32).reshape(table.num_rows, expected.dimension)


def _stored_sample(chroma: ChromaCollection, count: int) -> dict[str, np.ndarray]:
    sample: dict[str, np.ndarray] = {}
    for offset in range(0, count, max(1, -(-count // PROBES))):
        found = chroma.get(limit=1, offset=offset, include=["embeddings"])
        sample |= dict(zip(found["ids"], found["embeddings"], strict=True))
    return sample


def _finds(chroma: ChromaCollection, sample: dict[str, np.ndarray]) -> bool:
    """Whether the sample is stored as given, and a search for each vector finds it or its equal."""
    # A vector of zeros has no direction to be found by.
    sample = {chunk_id: vector for chunk_id, vector in sample.items() if vector.any()}
    if not sample:
        return True
    there = chroma.get(ids=list(sample), include=["embeddings"])
    stored = dict(zip(there["ids"], there["embeddings"], strict=True))
    if stored.keys() != sample.keys():
        return False
    if not all(np.allclose(stored[chunk_id], sample[chunk_id], atol=TOLERANCE) for chunk_id in sample):
        return False
    nearest = chroma.query(query_embeddings=list(sample.values()), n_results=1, include=["distances"])
    found = [row for row in nearest["distances"] if row and row[0] <= TOLERANCE]
    return len(found) >= FOUND * len(sample)
