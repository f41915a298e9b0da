"""Where the vectors of an index version are served, and what must be found there. Imports no chromadb."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A Chroma server, and how long one request may take without a sign of life, retries included."""

    url: str
    timeout_s: float


@dataclass(frozen=True)
class Expected:
    """What a collection must hold: `count` rows, vectors of `dimension`, of the version with this fingerprint.

    `index` is the uri of the index that they are loaded from; the same version may be in several.
    """

    name: str
    version: str
    fingerprint: str
    count: int
    dimension: int
    index: str


def collection_name(stem: str, version: str) -> str:
    """Name of the collection that holds `version`."""
    return f"{stem}-{version}"


def memory_bytes(count: int, dimension: int) -> int:
    """Memory that a server takes for so many vectors: twice their numbers, and about 1 kB each beside them."""
    return count * (8 * dimension + 1000)
