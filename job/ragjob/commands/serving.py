"""The Chroma server that a command uses, and the loading of an index version into it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ragjob.planning.identity import CommittedIndex
from ragjob.retrieval.chroma.expected import Expected, Target, collection_name
from ragjob.retrieval.chroma.settings import Chroma
from ragjob.runtime.progress import Observe, Progress
from ragjob.stages.cost import Cost

Server = Callable[[], Target]  # gives a server once it is ready


@contextmanager
def serving(settings: Chroma) -> Iterator[Server]:
    """The server to use: the one at `chroma.url`, or one of the job's own for the time of the block."""
    if settings.url:
        target = Target(settings.url, settings.timeout_s)
        yield lambda: target
        return
    from ragjob.retrieval.chroma.server import LocalChroma

    with LocalChroma(settings.path) as server:
        yield lambda: Target(server.url(), settings.timeout_s)


def expected(index: CommittedIndex) -> Expected:
    """What the collection of an index version must hold."""
    manifest, settings = index.manifest, index.settings
    name = collection_name(settings.index.collection, manifest.version)
    return Expected(name, manifest.version, manifest.fingerprint, manifest.chunks, manifest.dimension, index.ledger.uri)


def load_missing(index: CommittedIndex, target: Target, observe: Observe) -> list[Cost]:
    """Load the version unless the server has it; what that took, if it had to be."""
    from ragjob.retrieval.chroma.loading import is_loaded  # imports chromadb, which isn't for the start

    return [] if is_loaded(target, expected(index)) else [load_all(index, target, observe)]


def load_all(index: CommittedIndex, target: Target, observe: Observe) -> Cost:
    """Load the version, and verify it; what that took. What an interrupted load wrote is kept."""
    from ragjob.retrieval.chroma.loading import load

    chunks = index.manifest.chunks
    start = time.perf_counter()
    load(
        target,
        expected(index),
        lambda: index.ledger.batches(index.manifest),
        lambda loaded: observe(Progress("load", loaded, loaded / chunks)),
    )
    return Cost("load", chunks, 0, time.perf_counter() - start)
