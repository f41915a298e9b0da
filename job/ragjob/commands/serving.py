"""The Chroma server that a command uses, and the loading of an index version into it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from secrets import token_hex

from ragjob.commands.sentences import sentence_files
from ragjob.ledger.passages import Passages
from ragjob.planning.identity import CommittedIndex, PendingIndex, mode_of
from ragjob.retrieval.base import Served, Vectors
from ragjob.retrieval.chroma.expected import Expected, Target, collection_name
from ragjob.retrieval.chroma.settings import Chroma, lasts
from ragjob.runtime.progress import Observe, Progress, tell
from ragjob.stages.cost import Cost

Server = Callable[[], Target]  # gives a server once it is ready
NOWHERE = Target("", 0)  # of a mode that asks no server


@contextmanager
def serving(settings: Chroma, observe: Observe) -> Iterator[Server]:
    """The server to use: the one at `chroma.url`, or the job's own, which runs during the block."""
    if settings.url:
        target = Target(settings.url, settings.timeout_s)
        yield lambda: target
        return
    from ragjob.retrieval.chroma.server import LocalChroma

    with LocalChroma(settings.path) as server:

        def ready() -> Target:
            tell(observe, "starting Chroma")
            return Target(server.url(), settings.timeout_s)

        yield ready


def searched(index: PendingIndex | CommittedIndex, observe: Observe) -> AbstractContextManager[Server]:
    """The server that the index's mode of retrieval searches, during the block."""
    if mode_of(index.settings).asks_chroma:
        return serving(index.settings.chroma, observe)
    return nullcontext(lambda: NOWHERE)


def served(index: CommittedIndex, target: Target) -> Served:
    """An index version as it is searched on a server."""
    manifest, settings = index.manifest, index.settings
    (segment,) = manifest.segments
    name = collection_name(settings.index.collection, segment.segment)
    if not lasts(settings.chroma):
        # Another user of this machine may have reached the server first, and can't have guessed this name.
        name = f"{name}-{token_hex(4)}"
    fingerprint, uri = manifest.fingerprint, index.ledger.uri
    expected = Expected(name, manifest.version, fingerprint, manifest.rows, manifest.dimension, uri)
    return Served(target, expected, index.files, sentence_files(index))


def embed_questions(index: CommittedIndex, questions: list[str]) -> Vectors:
    """Embed questions in this process, as an index's prompts are embedded: float32 [n, dimension]."""
    from joblib import cpu_count

    from ragjob.models.embedder import open_embedder  # imports torch, which isn't for the start

    settings, dtype = index.settings.embed, index.manifest.dtype
    return open_embedder(settings, index.embedder, dtype, cpu_count(), 0).embed_queries(questions)


def prepare(index: CommittedIndex, observe: Observe) -> list[Cost]:
    """Build what the mode of retrieval searches besides the vectors. Returns the costs, if it had to be built."""
    start = time.perf_counter()
    tell(observe, "preparing to search")
    built = mode_of(index.settings).prepare(index.files)
    return [Cost("prepare", index.manifest.rows, 0, time.perf_counter() - start)] if built else []


def load_missing(index: Served, observe: Observe) -> list[Cost]:
    """Load the version unless the server has it, or none is searched. Returns the costs, if it was loaded."""
    if index.target is NOWHERE:
        return []
    from ragjob.retrieval.chroma.loading import is_loaded  # imports chromadb, which isn't for the start

    tell(observe, "opening the index")
    passages = index.files.open()
    tell(observe, "checking the collection in Chroma")
    return [] if is_loaded(index.target, index.expected, passages) else [_load(index, passages, observe)]


def load_all(index: Served, observe: Observe) -> Cost:
    """Load the version, and verify it. Returns the cost. What an interrupted load wrote is kept."""
    return _load(index, index.files.open(), observe)


def _load(index: Served, passages: Passages, observe: Observe) -> Cost:
    from ragjob.retrieval.chroma.loading import load

    rows = len(passages)
    start = time.perf_counter()

    def report(loaded: int) -> None:
        observe(Progress("vectors", loaded, loaded / rows, "load"))
        if loaded >= rows:
            tell(observe, "verifying the collection in Chroma")

    report(0)
    load(index.target, index.expected, passages, report)
    return Cost("load", rows, 0, time.perf_counter() - start)
