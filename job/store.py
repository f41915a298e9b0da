"""The vectors of an index version in a Chroma server: loaded whole, verified, searched."""

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.config import Settings, System

from job.chroma_session import NotThereError, ServerFailedError, Session, shown
from job.errors import DataError, DependencyError
from job.schema import CHUNK_ID, CHUNK_INDEX, DOCUMENT_ID, EMBEDDING, METRIC, TEXT, URI

log = logging.getLogger(__name__)

CHECK_S = 10.0
LISTED = 100  # collections in one answer
OURS = {"index", "version", "fingerprint", "count", "ready"}  # the metadata of a collection of this program
WRITE_ROWS = 2_000  # the best rate is between 500 and 2,000 rows a request
WRITE_BYTES = 30 * 2**20  # the server refuses 40 MiB
# Recall@10 on 20,000 vectors of 384 dimensions: 0.994 with Chroma's own 100s, 0.999 with 200s, and a load
# that takes 15 % longer.
HNSW = {"space": METRIC, "ef_construction": 200, "ef_search": 200}
PROBES = 32
TOLERANCE = 1e-5
TIES = 4  # candidates beyond top_k, among which rows of equal score are put in order of their ids
QUERY_THREADS = min(4, os.cpu_count() or 1)  # the server answers the queries of one request one after another

Batches = Callable[[], Iterable[pa.Table]]


@dataclass(frozen=True)
class Target:
    """A Chroma server, and how long one request may take, retries included."""

    url: str
    timeout_s: float


@dataclass(frozen=True)
class Expected:
    """What a collection must hold: `count` vectors of `dimension`, of the version with this fingerprint.

    `index` is the uri of the index that they are loaded from; the same version may stand in several.
    """

    name: str
    version: str
    fingerprint: str
    count: int
    dimension: int
    index: str


@dataclass(frozen=True)
class Stored:
    """A collection that was loaded, or is being loaded, from `version` of the index at `index`."""

    name: str
    version: str
    index: str
    count: int


@dataclass(frozen=True)
class Hit:
    """A passage; `score` is its cosine similarity to the question, in [-1, 1]."""

    chunk_id: str
    uri: str
    text: str
    score: float


class Collection:
    """A loaded collection, to be searched from any number of threads."""

    def __init__(self, chroma: Any) -> None:
        self._chroma = chroma

    def search(self, vectors: np.ndarray, top_k: int, min_score: float | None, batch_size: int) -> list[list[Hit]]:
        """Passages for each of `vectors` (float32 [n, dimension]): at most `top_k`, best first.

        Hits below `min_score` are left out; scores equal to five decimals are in order of chunk_id. A request
        carries at most `batch_size` vectors.

        Raises `DependencyError` when the server doesn't answer in time.
        """
        size = max(1, min(batch_size, -(-len(vectors) // QUERY_THREADS)))
        parts = [vectors[start : start + size] for start in range(0, len(vectors), size)]
        ask = partial(self._ask, top_k=top_k, min_score=min_score)
        hits: list[list[Hit]] = []
        with ThreadPoolExecutor(QUERY_THREADS) as pool:
            # In rounds: behind a request that failed by its deadline, no other must wait for its own.
            for start in range(0, len(parts), QUERY_THREADS):
                for answered in pool.map(ask, parts[start : start + QUERY_THREADS]):
                    hits += answered
        return hits

    def _ask(self, vectors: np.ndarray, top_k: int, min_score: float | None) -> list[list[Hit]]:
        found = self._chroma.query(
            query_embeddings=vectors,
            n_results=top_k + TIES,
            include=["metadatas", "documents", "distances"],
        )
        columns = (found[name] for name in ("ids", "metadatas", "documents", "distances"))
        return [_best(row, top_k, min_score) for row in zip(*columns, strict=True)]


def collection_name(stem: str, version: str) -> str:
    """Name of the collection that holds `version`."""
    return f"{stem}-{version}"


def stored(target: Target, stem: str) -> list[Stored]:
    """The collections of index versions on the server that are named after `stem`, by name."""
    api = _connect(target)
    models: list[Any] = []
    while page := api.list_collections(limit=LISTED, offset=len(models)):
        models += page
    ours = (_stored(model) for model in models if _is_version(model, stem))
    return sorted(ours, key=lambda each: each.name)


def drop(target: Target, name: str) -> None:
    """Delete a collection; one that is gone already is fine."""
    with suppress(NotThereError):
        _connect(target).delete_collection(name)


def check(target: Target) -> None:
    """Raise `DependencyError` unless the server answers within ten seconds."""
    _connect(replace(target, timeout_s=min(target.timeout_s, CHECK_S))).heartbeat()


def is_loaded(target: Target, expected: Expected) -> bool:
    """Whether the collection holds all of the version, verified, and finds a sample of it.

    Raises `DataError` when the name is another index's, `DependencyError` when the server doesn't answer.
    """
    chroma = _find(target, expected)
    if chroma is None or not _is_complete(chroma, expected):
        return False
    try:
        return _finds(chroma, _stored_sample(chroma, expected.count))
    except ServerFailedError:
        return False


def load(target: Target, expected: Expected, batches: Batches, progress: Callable[[int], None]) -> None:
    """Fill the collection from an index version's rows, verify it, and only then mark it ready.

    `batches` gives the rows anew at each call, as tables of CHUNKS without their error, embedded; `progress`
    is told the number of rows that are in so far. What an interrupted load wrote is kept; a collection that
    fails its verification is built anew, once.

    Raises `DataError` when the name is another index's or the rows aren't those expected, `DependencyError`
    when the server doesn't answer or the second verification fails.
    """
    api = _connect(target)
    chroma = _create(api, target, expected)
    if not _fill(chroma, expected, batches, progress):
        log.warning("collection is torn: building it anew", extra={"collection": expected.name})
        with suppress(NotThereError):
            api.delete_collection(expected.name)
        chroma = _create(api, target, expected)
        if not _fill(chroma, expected, batches, progress):
            raise DependencyError(
                f"chroma.url: {shown(target.url)} lost rows of {expected.name} twice: "
                "see its log and disk space, or give it an empty data folder"
            )
    chroma.modify(metadata=_metadata(expected, ready=True))


def open_collection(target: Target, expected: Expected) -> Collection:
    """The loaded collection of an index version.

    Raises `DataError` when it isn't loaded whole or the name is another index's, `DependencyError` when the
    server doesn't answer.
    """
    chroma = _find(target, expected)
    if chroma is None or not _is_complete(chroma, expected):
        raise DataError(
            f"index.collection: {expected.name} on {shown(target.url)} isn't loaded with all "
            f"{expected.count} rows: run `ragjob load`"
        )
    return Collection(chroma)


def _best(row: tuple[Any, ...], top_k: int, min_score: float | None) -> list[Hit]:
    hits = [
        Hit(chunk_id, fields[URI], text, 1.0 - distance)
        for chunk_id, fields, text, distance in zip(*row, strict=True)
        if min_score is None or 1.0 - distance >= min_score
    ]
    return sorted(hits, key=lambda hit: (-round(hit.score, 5), hit.chunk_id))[:top_k]


def _metadata(expected: Expected, *, ready: bool) -> dict[str, str | int | bool]:
    return {
        "index": expected.index,
        "version": expected.version,
        "fingerprint": expected.fingerprint,
        "count": expected.count,
        "ready": ready,
    }


def _is_version(model: Any, stem: str) -> bool:
    found = model.metadata or {}
    return found.keys() >= OURS and model.name == collection_name(stem, found["version"])


def _stored(model: Any) -> Stored:
    return Stored(model.name, model.metadata["version"], model.metadata["index"], int(model.metadata["count"]))


def _find(target: Target, expected: Expected) -> Any | None:
    api = _connect(target)
    try:
        model = api.get_collection(expected.name)
    except NotThereError:
        return None
    return _ours(api, model, target, expected)


def _create(api: Any, target: Target, expected: Expected) -> Any:
    model = api.create_collection(
        expected.name,
        configuration={"hnsw": HNSW},
        metadata=_metadata(expected, ready=False),
        get_or_create=True,
    )
    return _ours(api, model, target, expected)


def _ours(api: Any, model: Any, target: Target, expected: Expected) -> Any:
    """The collection behind `model`, unless it is another index's."""
    found = model.metadata or {}
    if (found.get("version"), found.get("fingerprint")) != (expected.version, expected.fingerprint):
        raise DataError(
            f"index.collection: {expected.name} on {shown(target.url)} belongs to another index "
            f"(version {found.get('version')}): choose another name, or delete that collection"
        )
    return ChromaCollection(client=api, model=model, embedding_function=None)


def _is_complete(chroma: Any, expected: Expected) -> bool:
    return bool(chroma.metadata.get("ready")) and chroma.count() == expected.count


def _fill(chroma: Any, expected: Expected, batches: Batches, progress: Callable[[int], None]) -> bool:
    """Write the rows that are missing; true when the collection then holds all and finds a sample."""
    try:
        sample = _write(chroma, expected, batches(), progress)
        return chroma.count() == expected.count and _finds(chroma, sample)
    except ServerFailedError as error:
        log.warning("%s", error)
        return False


def _write(
    chroma: Any, expected: Expected, batches: Iterable[pa.Table], progress: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """Write the rows that are missing; a sample of all rows, spread evenly, as vectors by id."""
    sample: dict[str, np.ndarray] = {}
    step = max(1, -(-expected.count // PROBES))
    done = 0
    max_rows = min(WRITE_ROWS, chroma._client.get_max_batch_size())
    for table in _requests(batches, expected.dimension, max_rows):
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


def _write_missing(chroma: Any, table: pa.Table, ids: list[str], vectors: np.ndarray) -> None:
    """Add the rows that aren't there: writing a row a second time takes Chroma five times as long."""
    there = set(chroma.get(ids=ids, include=[])["ids"])
    rows = [row for row, chunk_id in enumerate(ids) if chunk_id not in there]
    if not rows:
        return
    missing = table.take(rows)
    chroma.upsert(
        ids=missing[CHUNK_ID].to_pylist(),
        embeddings=vectors[rows],
        documents=missing[TEXT].to_pylist(),
        metadatas=missing.select([URI, DOCUMENT_ID, CHUNK_INDEX]).to_pylist(),
    )


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
    texts = sum(pc.max(pc.binary_length(joined[name])).as_py() or 0 for name in (TEXT, URI, DOCUMENT_ID))
    # In JSON a vector is base64 of float32, a text at most doubles by escapes, names and ids take the rest.
    row_bytes = 2 * texts + 4 * dimension * 4 // 3 + 200
    rows = max(1, min(max_rows, WRITE_BYTES // row_bytes))
    for start in range(0, joined.num_rows, rows):
        yield joined.slice(start, rows)


def _vectors(table: pa.Table, expected: Expected) -> np.ndarray:
    """The embeddings, float32 [rows, dimension]."""
    flat = table[EMBEDDING].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if flat.size != table.num_rows * expected.dimension:
        raise DataError(
            f"index.uri: version {expected.version} has vectors that aren't of the {expected.dimension} "
            "dimensions in its manifest: delete that version and run `ragjob index`"
        )
    return np.asarray(flat, np.float32).reshape(table.num_rows, expected.dimension)


def _stored_sample(chroma: Any, count: int) -> dict[str, np.ndarray]:
    sample: dict[str, np.ndarray] = {}
    for offset in range(0, count, max(1, -(-count // PROBES))):
        found = chroma.get(limit=1, offset=offset, include=["embeddings"])
        sample |= dict(zip(found["ids"], found["embeddings"], strict=True))
    return sample


def _finds(chroma: Any, sample: dict[str, np.ndarray]) -> bool:
    """Whether the sample is stored as given, and a search for each vector finds it or its equal."""
    # A vector of zeros has no direction to be found by.
    sample = {chunk_id: vector for chunk_id, vector in sample.items() if vector.any()}
    if not sample:
        return True
    found = chroma.get(ids=list(sample), include=["embeddings"])
    stored = dict(zip(found["ids"], found["embeddings"], strict=True))
    if stored.keys() != sample.keys():
        return False
    if not all(np.allclose(stored[chunk_id], sample[chunk_id], atol=TOLERANCE) for chunk_id in sample):
        return False
    nearest = chroma.query(query_embeddings=list(sample.values()), n_results=1, include=["distances"])
    return all(row and row[0] <= TOLERANCE for row in nearest["distances"])


def _connect(target: Target) -> Any:
    """Chroma's client, without the requests that `chromadb.HttpClient` makes before it has a time limit."""
    port = urlsplit(target.url).port or 8000  # Chroma wants one here, and uses the url's
    settings = Settings(chroma_server_host=target.url, chroma_server_http_port=port, anonymized_telemetry=False)
    api = FastAPI(System(settings))
    api._session.close()
    api._session = Session(target.url, target.timeout_s, api._session.headers)
    weakref.finalize(api, api._session.close)
    return api
