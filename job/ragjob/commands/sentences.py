"""Make sure that an index version has its sentences if retrieval uses them."""

import logging

import pyarrow as pa

from ragjob.commands.flows import sentence_steps
from ragjob.errors import Defect, RagjobError, TooManyFailures
from ragjob.ledger import schema
from ragjob.ledger.sentences import SentenceFiles
from ragjob.models.capacity import Resources
from ragjob.planning.identity import CommittedIndex, mode_of
from ragjob.planning.packing import free_tasks
from ragjob.runtime.flow import execute
from ragjob.runtime.progress import Observe, of_flow
from ragjob.stages.cost import Cost

SENTENCES = "sentences"  # the flow that embeds them

log = logging.getLogger(__name__)


def sentence_files(index: CommittedIndex) -> SentenceFiles | None:
    """The files that retrieval uses; None if it uses none, or if they are missing."""
    settings, (segment,) = index.settings, index.manifest.segments
    manifest = index.sentences.manifest() if mode_of(settings).uses_sentences else None
    if manifest is None:
        return None
    return SentenceFiles(index.ledger.uri, segment.segment, manifest, settings.index.cache)


def join_staged(index: CommittedIndex) -> bool:
    """Join the sentences if all of them are staged. Returns whether those that retrieval uses are there and whole."""
    if not mode_of(index.settings).uses_sentences:
        return True
    if files := sentence_files(index):
        if files.are_whole():
            return True
        index.sentences.discard(files.manifest)
    try:
        if index.sentences.missing():
            return False
        _join(index)
    except RagjobError:
        if sentence_files(index) is None:  # else another attempt was faster, and has removed what was staged
            raise
    return True


def embed_missing(index: CommittedIndex, size: Resources, observe: Observe) -> list[Cost]:
    """Embed the sentences that are missing, if they are used, and join them. Returns the costs. Ray runs already.

    `index` embeds most of them with its chunks, unless retrieval didn't use them then. What is left are those of
    documents with a failed chunk, of parts where too many failed, and damaged ones.
    """
    if join_staged(index):
        return []
    costs = []
    try:
        if blocks := [pa.table([[part]], schema.PARTS) for part in index.sentences.missing()]:
            tasks = free_tasks(index.settings, "index", size)
            steps, s3 = sentence_steps(index, size), index.settings.s3
            costs = execute(blocks, steps, tasks, s3, of_flow(SENTENCES, observe))
        _join(index)
    except Defect:
        raise
    except RagjobError:
        if sentence_files(index) is None:  # as in `join_staged`
            raise
        return []
    return costs


def _join(index: CommittedIndex) -> None:
    """Join what is staged. Raises `TooManyFailures` if too many passages failed: a rerun tries them again."""
    failed, most = index.sentences.failed(), index.settings.errors.max_rate
    if failed > max(1, most * index.chunks):
        index.sentences.give_up_failed()
        raise TooManyFailures(
            f"errors.max_rate: the sentences of {failed:,} of {index.chunks:,} passages couldn't be embedded, more "
            f"than {most:.1%}; the log has the first error. Run the job again to retry their parts of the index, "
            "raise the rate, or set retrieve.sentences to false"
        )
    index.sentences.join()
    if failed:
        log.warning("%s passages are ranked without their sentences, which couldn't be embedded", f"{failed:,}")
