"""Make an index version, commit it, and load it."""

from contextlib import ExitStack

import pyarrow as pa

from ragjob.commands.flows import index_steps
from ragjob.commands.sentences import embed_missing, join_staged
from ragjob.commands.serving import load_missing, prepare, served, serving
from ragjob.documents.units import plan_slices
from ragjob.errors import DataError, Defect, DependencyError, RagjobError, TooManyFailures
from ragjob.ledger import schema
from ragjob.ledger.index import About, IndexManifest, set_current
from ragjob.ledger.segment import Part
from ragjob.models.capacity import Resources
from ragjob.planning.identity import CommittedIndex, PendingIndex, listed
from ragjob.planning.packing import free_tasks
from ragjob.retrieval.chroma.settings import lasts
from ragjob.runtime import cluster
from ragjob.runtime.flow import execute
from ragjob.runtime.progress import Observe, of_flow, tell
from ragjob.stages.cost import Cost

CHUNK_BYTES = 800  # text of a chunk, about: sizes the units of the corpus


def make_and_load(
    index: PendingIndex | CommittedIndex, size: Resources, observe: Observe
) -> tuple[CommittedIndex, list[Cost]]:
    """Make and load the version if necessary, and make it the current one. Returns it and the costs."""
    chroma = index.settings.chroma
    with ExitStack() as started:
        servers = [started.enter_context(serving(chroma, observe))] if lasts(chroma) else []
        if isinstance(index, CommittedIndex) and join_staged(index):
            made, costs = index, list[Cost]()
        else:
            tell(observe, connecting())
            stop_ray = started.enter_context(cluster.running(size))
            made, costs = make(index, size, observe)
            stop_ray()
        costs += prepare(made, observe)
        for server in servers:
            costs += load_missing(served(made, server()), observe)
        if isinstance(index, PendingIndex):
            tell(observe, "stopping Ray")
    set_current(made.ledger.uri, made.ledger.version)
    return made, costs


def connecting() -> str:
    """What a command does when it enters `cluster.running`."""
    return "connecting to Ray" if cluster.is_remote() else "starting Ray"


def make(index: PendingIndex | CommittedIndex, size: Resources, observe: Observe) -> tuple[CommittedIndex, list[Cost]]:
    """The committed version with everything that retrieval uses, and the costs of making what was missing."""
    made, costs = (index, []) if isinstance(index, CommittedIndex) else _make_version(index, size, observe)
    return made, costs + embed_missing(made, size, observe)


def _make_version(index: PendingIndex, size: Resources, observe: Observe) -> tuple[CommittedIndex, list[Cost]]:
    index.ledger.segment.take_up()
    tell(observe, "listing what is left to index")
    limit = index.settings.commit_rows
    slices = list(plan_slices(index.segments, limit, limit * CHUNK_BYTES))
    tasks = free_tasks(index.settings, "index", size)
    try:
        costs = execute(slices, index_steps(index, size), tasks, index.settings.s3, of_flow("index", observe))
        tell(observe, "committing the index version")
        manifest = _commit(index)
    except Defect:
        raise
    except RagjobError:
        # Another attempt may have been faster, and have swept what this one still needed.
        faster = index.ledger.manifest()
        if faster is None:
            raise
        index.ledger.sweep()
        costs, manifest = [], faster
    return CommittedIndex(index.settings, index.embedder, index.ledger, manifest, index.passed_over), costs


def _commit(index: PendingIndex) -> IndexManifest:
    parts = index.ledger.segment.survey()
    _check_complete(index, parts)
    _check_documents(index, parts)
    listing = pa.table([list(column) for column in zip(*listed(index.corpus), strict=True)], schema.LISTING)
    about = About(schema.digest(index.facts), index.facts, index.embedder.label, listing)
    return index.ledger.commit(parts, about)


def _check_complete(index: PendingIndex, parts: list[Part]) -> None:
    """Raise if a document is in no part: `clean` removes the parts of an attempt that was abandoned long ago."""
    lost = sum(segment.rows for segment in index.segments) - sum(part.documents.num_rows for part in parts)
    if lost > 0:
        raise DependencyError(
            f"index.uri: the parts of {lost:,} documents were removed by another process; run the job again"
        )


def _check_documents(index: PendingIndex, parts: list[Part]) -> None:
    """Raise if too large a share of the documents failed; one that failed in part counts by that part."""
    documents = [document for part in parts for document in part.documents.to_pylist()]
    failed = [document for document in documents if document["failed_count"]]
    if sum(part.empty for part in parts) == len(documents):
        raise DataError(f"corpus.uri: {index.settings.corpus.uri} has no text to index; name files that contain text")
    share = sum(d["failed_count"] / (d["failed_count"] + d["chunk_count"]) for d in failed) / len(documents)
    if share > index.settings.errors.max_rate:
        first = failed[0]
        raise TooManyFailures(
            f"errors.max_rate: {share:.1%} of {len(documents):,} documents failed, more than "
            f"{index.settings.errors.max_rate:.1%}; correct, exclude or retry them, or raise the rate; the errors "
            f"are in {index.ledger.segment.failed_parts}; the first is "
            f"{first[schema.DOCUMENT_ID]}: {first[schema.ERROR]}"
        )
