"""Our collections in a Chroma server: one for each index version, with its state in its metadata."""

import weakref
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import httpx
from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.config import Settings, System

from ragjob.errors import DataError
from ragjob.ledger.schema import METRIC
from ragjob.retrieval.chroma.expected import Expected, Target, collection_name
from ragjob.retrieval.chroma.session import NotThereError, Session, shown

LISTED = 100  # collections in one answer
OURS = {"index", "version", "fingerprint", "count", "state"}  # the metadata of a collection of this program
REQUEST_BYTES = 30 * 2**20  # the server refuses 40 MiB
ROW_S = 0.01  # a restarted server indexes its log anew, 1 to 2 ms a row on an idle processor, before it answers
# Recall@10 on 20,000 vectors of 384 dimensions: 0.994 with Chroma's own 100s, 0.999 with 200s, and a load
# that takes 15 % longer.
HNSW = {"space": METRIC, "ef_construction": 200, "ef_search": 200}


class State(StrEnum):
    """How far along a collection is. Only a ready one is searched; a torn one is built anew by the next load."""

    LOADING = "loading"
    READY = "ready"
    TORN = "torn"


@dataclass(frozen=True)
class Stored:
    """A collection that was loaded, or is being loaded, from `version` of the index at `index`."""

    name: str
    version: str
    index: str
    count: int


def stored(target: Target, stem: str) -> list[Stored]:
    """The collections of index versions on the server that are named after `stem`, by name."""
    api = connect(target, 0)
    models: list[Any] = []
    while page := api.list_collections(limit=LISTED, offset=len(models)):
        models += page
    ours = (_stored(model) for model in models if _is_version(model, stem))
    return sorted(ours, key=lambda collection: collection.name)


def drop(target: Target, name: str) -> None:
    """Delete a collection; one that is gone already is fine."""
    with suppress(NotThereError):
        connect(target, 0).delete_collection(name)


def check(target: Target) -> None:
    """Raise `DependencyError` unless the server answers."""
    connect(target, 0).heartbeat()


def connect(target: Target, rows: int) -> FastAPI:
    """Chroma's client, without the requests that `chromadb.HttpClient` makes before it has a time limit.

    `rows` are those of the collection that it is for: a server that is busy indexing them is waited for.
    """
    return _Client(target, rows * ROW_S)


class _Client(FastAPI):  # type: ignore[misc]
    """Chroma's client over a `Session`: its own HTTP client would read certificates and proxies, which it must not."""

    def __init__(self, target: Target, patience_s: float) -> None:
        port = urlsplit(target.url).port or 8000  # Chroma wants one here, and uses the url's
        settings = Settings(chroma_server_host=target.url, chroma_server_http_port=port, anonymized_telemetry=False)
        super(FastAPI, self).__init__(System(settings))
        self._api_url = FastAPI.resolve_url(
            chroma_server_host=target.url,
            chroma_server_http_port=port,
            default_api_path=settings.chroma_server_api_default_path,
        )
        headers = httpx.Headers({"Content-Type": "application/json", "User-Agent": "ragjob"})
        self._session = Session(target.url, target.timeout_s, patience_s, headers)
        weakref.finalize(self, self._session.close)


def find(target: Target, expected: Expected) -> ChromaCollection | None:
    """The collection, or None. Raises `DataError` if the name belongs to another index."""
    api = connect(target, expected.count)
    try:
        model = api.get_collection(expected.name)
    except NotThereError:
        return None
    chroma = _collection(api, model)
    if not is_ours(chroma, expected):
        raise DataError(
            f"index.collection: {expected.name} on {shown(target.url)} belongs to another index, or uses another "
            "distance: run `ragjob load` to replace it, or choose another name"
        )
    return chroma


def create(api: FastAPI, expected: Expected) -> ChromaCollection:
    """The collection of that name, made if there is none."""
    # The index is written to disk once, with the last row, and till then the server's log has all. A server killed
    # in mid-write leaves an index that it can't read, or worse (Chroma 1.5.9): whose rows have each other's vectors.
    hnsw = HNSW | {"sync_threshold": max(2, expected.count)}
    model = api.create_collection(
        expected.name,
        configuration={"hnsw": hnsw},
        metadata=_metadata(expected, State.LOADING),
        get_or_create=True,
    )
    return _collection(api, model)


def is_ours(chroma: ChromaCollection, expected: Expected) -> bool:
    """Whether the collection was made for this version, with the same distance."""
    model, metadata = chroma._model, chroma.metadata or {}
    return (
        (metadata.get("version"), metadata.get("fingerprint")) == (expected.version, expected.fingerprint)
        and model.dimension in (None, expected.dimension)
        and (model.configuration_json.get("hnsw") or {}).get("space") == METRIC
    )


def state(chroma: ChromaCollection) -> str | None:
    """The collection's state when it was found."""
    stored_state: str | None = chroma.metadata.get("state")
    return stored_state


def set_state(chroma: ChromaCollection, expected: Expected, new: State) -> None:
    """Note the collection's state, where every client sees it."""
    chroma.modify(metadata=_metadata(expected, new))


def is_complete(chroma: ChromaCollection, expected: Expected) -> bool:
    """Whether the collection is ready and still has all its rows."""
    return state(chroma) == State.READY and chroma.count() == expected.count


def _metadata(expected: Expected, state: State) -> dict[str, str | int]:
    return {
        "index": expected.index,
        "version": expected.version,
        "fingerprint": expected.fingerprint,
        "count": expected.count,
        "state": str(state),
    }


def _is_version(model: Any, stem: str) -> bool:
    metadata = model.metadata or {}
    return metadata.keys() >= OURS and model.name == collection_name(stem, metadata["version"])


def _stored(model: Any) -> Stored:
    return Stored(model.name, model.metadata["version"], model.metadata["index"], int(model.metadata["count"]))


def _collection(api: FastAPI, model: Any) -> ChromaCollection:
    # With a schema, `add` would build the embedding functions that the server names, which may run a model's own code.
    model.serialized_schema = None
    return ChromaCollection(client=api, model=model, embedding_function=None)
