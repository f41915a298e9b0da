"""Our collections in a Chroma server: one for each index version, with its state in its metadata."""

import weakref
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.config import Settings, System

from job.chroma_session import NotThereError, Session, shown
from job.errors import DataError
from job.schema import METRIC

CHECK_S = 10.0
REQUEST_BYTES = 30 * 2**20  # the server refuses 40 MiB
ROW_S = 0.01  # a restarted server indexes its log anew, 1 to 2 ms a row on an idle processor, before it answers
# Recall@10 on 20,000 vectors of 384 dimensions: 0.994 with Chroma's own 100s, 0.999 with 200s, and a load
# that takes 15 % longer.
_HNSW = {"space": METRIC, "ef_construction": 200, "ef_search": 200}


class State(StrEnum):
    """How far a collection is. Only a ready one is searched; a torn one is built anew by the next load."""

    LOADING = "loading"
    READY = "ready"
    TORN = "torn"


@dataclass(frozen=True)
class Target:
    """A Chroma server, and how long one request may take without a sign of life, retries included."""

    url: str
    timeout_s: float


@dataclass(frozen=True)
class Expected:
    """What a collection must hold: `count` vectors of `dimension`, of the version with this fingerprint."""

    name: str
    version: str
    fingerprint: str
    count: int
    dimension: int


def collection_name(stem: str, version: str) -> str:
    """Name of the collection that holds `version`."""
    return f"{stem}-{version}"


def check(target: Target) -> None:
    """Raise `DependencyError` unless the server answers within ten seconds."""
    connect(replace(target, timeout_s=min(target.timeout_s, CHECK_S)), 0).heartbeat()


def connect(target: Target, rows: int) -> Any:
    """Chroma's client, without the requests that `chromadb.HttpClient` makes before it has a time limit.

    `rows` are those of the collection that it is for: a server that is busy indexing them is waited for.
    """
    port = urlsplit(target.url).port or 8000  # Chroma wants one here, and uses the url's
    settings = Settings(chroma_server_host=target.url, chroma_server_http_port=port, anonymized_telemetry=False)
    api = FastAPI(System(settings))
    api._session.close()
    api._session = Session(target.url, target.timeout_s, rows * ROW_S, api._session.headers)
    weakref.finalize(api, api._session.close)
    return api


def find(target: Target, expected: Expected) -> Any | None:
    """The collection, or None. Raises `DataError` when the name is another index's."""
    api = connect(target, expected.count)
    try:
        model = api.get_collection(expected.name)
    except NotThereError:
        return None
    return _ours(api, model, target, expected)


def create(api: Any, target: Target, expected: Expected) -> Any:
    """The collection, made if it isn't there. Raises `DataError` when the name is another index's."""
    # The index is written to disk once, with the last row, and till then the server's log has all. A server killed
    # in mid-write leaves an index that it can't read, or worse (Chroma 1.5.9): whose rows have each other's vectors.
    hnsw = _HNSW | {"sync_threshold": max(2, expected.count)}
    model = api.create_collection(
        expected.name,
        configuration={"hnsw": hnsw},
        metadata=_metadata(expected, State.LOADING),
        get_or_create=True,
    )
    return _ours(api, model, target, expected)


def state(chroma: Any) -> str | None:
    """The collection's state when it was found."""
    found: str | None = chroma.metadata.get("state")
    return found


def set_state(chroma: Any, expected: Expected, new: State) -> None:
    """Note the collection's state, where every client sees it."""
    chroma.modify(metadata=_metadata(expected, new))


def is_complete(chroma: Any, expected: Expected) -> bool:
    """Whether the collection is ready and still has all its rows."""
    return state(chroma) == State.READY and chroma.count() == expected.count


def _metadata(expected: Expected, state: State) -> dict[str, str | int]:
    return {
        "version": expected.version,
        "fingerprint": expected.fingerprint,
        "count": expected.count,
        "state": str(state),
    }


def _ours(api: Any, model: Any, target: Target, expected: Expected) -> Any:
    """The collection behind `model`, unless it is another index's."""
    found = model.metadata or {}
    if (found.get("version"), found.get("fingerprint")) != (expected.version, expected.fingerprint):
        raise DataError(
            f"index.collection: {expected.name} on {shown(target.url)} belongs to another index "
            f"(version {found.get('version')}): choose another name, or delete that collection"
        )
    return ChromaCollection(client=api, model=model, embedding_function=None)
