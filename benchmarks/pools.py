"""Embedding on all CPUs by the actors that a plan proposes, against the other way: one of all threads, or one a CPU.

Each actor is a process with the stage's own embedder. Passages are dealt out in blocks; the last to end counts. Loading
is left aside.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.figures import Figure, compare, seconds
from benchmarks.passages import passages
from ragjob.config import JobSettings
from ragjob.models.capacity import Resources, Work, facts, threads
from ragjob.models.device import choose_dtype
from ragjob.models.embedder import open_embedder
from ragjob.models.files import Source
from ragjob.models.source import resolve
from ragjob.planning.proposals import Indexing, propose
from ragjob.runtime.cluster import resources
from ragjob.settings import Pool
from ragjob.stages import embed

BLOCK = 128  # rows
BLOCKS = 2  # for each actor, where there are most
CHUNKS = 1_000_000  # of the corpus that the plan is for: actors' starts don't count


def figures(_: Path) -> Iterator[Figure]:
    settings, size = JobSettings(), resources(JobSettings().cluster)
    dtype = choose_dtype(settings.embed.dtype, 0)
    proposed = proposed_actors(settings, size)
    other = int(size.cpus) if proposed == 1 else 1
    ours, theirs = [
        [Worker(dtype, threads(Pool(max=actors), size)) for _ in range(actors)] for actors in (proposed, other)
    ]
    for worker in ours + theirs:
        worker.pipe.recv()
    rows = BLOCK * BLOCKS * max(proposed, other)
    texts = passages(rows)
    blocks = [texts[start : start + BLOCK] for start in range(0, rows, BLOCK)]
    yield compare(
        f"{rows} passages embedded by {proposed} actors",
        "s",
        lambda: seconds(lambda: share_out(blocks, ours)),
        lambda: seconds(lambda: share_out(blocks, theirs)),
        f"by {other} on the same CPUs",
        at_most=1.02,
    )
    for worker in ours + theirs:
        worker.end()


def proposed_actors(settings: JobSettings, size: Resources) -> int:
    """Embedding actors that a plan proposes here for a large corpus; by default those of the settings."""
    model = facts(model_of(settings))
    on_cpus = Resources.equal(size.cpus, nodes=size.nodes)
    proposals = propose(settings, on_cpus, model, [Indexing(Work(CHUNKS, CHUNKS))])
    values = {proposal.key: int(proposal.value) for proposal in proposals}
    return values.get("embed.pool.max", settings.embed.pool.max)


def model_of(settings: JobSettings) -> Source:
    return resolve(settings.embed.model, settings.embed.revision, "embed.model", settings.models.cache)


def share_out(blocks: list[list[str]], workers: list["Worker"]) -> None:
    for number, worker in enumerate(workers):
        worker.pipe.send(blocks[number :: len(workers)])
    for worker in workers:
        worker.pipe.recv()


class Worker:
    """A process with an embedder of its own. It says so on `pipe` when it is ready, and when it has done its blocks."""

    def __init__(self, dtype: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, dtype, threads), daemon=True)
        self._process.start()

    def end(self) -> None:
        self.pipe.send(None)
        self._process.join()


def serve(pipe: Connection, dtype: str, threads: int) -> None:
    """Embed lists of blocks until there is None."""
    settings = JobSettings()
    embedder = open_embedder(settings.embed, model_of(settings), dtype, threads, 0)
    embedder.embed_documents(passages(BLOCK))  # the first pass is slower
    pipe.send(None)
    # As in a flow.
    with ThreadPoolExecutor(embed.BLOCKS_AT_ONCE) as pool:
        for blocks in iter(pipe.recv, None):
            list(pool.map(embedder.embed_documents, blocks))
            pipe.send(None)
