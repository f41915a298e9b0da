"""Make sure that an index version has its sentences if retrieval uses them."""

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


def sentence_files(index: CommittedIndex) -> SentenceFiles | None:
    """The files that retrieval uses; None if it uses none, or if they are missing."""
    settings, (segment,) = index.settings, index.manifest.segments
    manifest = index.sentences.manifest() if mode_of(settings).uses_sentences else None
    if manifest is None:
        return None
    return SentenceFiles(index.ledger.uri, segment.segment, manifest, settings.index.cache)


def have_sentences(index: CommittedIndex) -> bool:
    """Return whether the sentences that retrieval uses are there and whole, or it uses none."""
    files = sentence_files(index)
    return not mode_of(index.settings).uses_sentences or (files is not None and files.are_whole())


def embed_missing(index: CommittedIndex, size: Resources, observe: Observe) -> list[Cost]:
    """Embed the sentences that are missing, if they are used, and join them. Returns the costs. Ray runs already.

    `index` embeds them with its chunks, unless retrieval didn't use them then. Damaged ones are embedded again.
    """
    if have_sentences(index):
        return []
    index.sentences.discard()
    try:
        costs = []
        if parts := index.sentences.missing():
            blocks = [pa.table([[part]], schema.PARTS) for part in parts]
            tasks = free_tasks(index.settings, "index", size)
            steps, s3 = sentence_steps(index, size), index.settings.s3
            costs = execute(blocks, steps, tasks, s3, of_flow(SENTENCES, observe))
            _check_failures(index)
        index.sentences.join()
    except Defect:
        raise
    except RagjobError:
        if sentence_files(index) is None:  # else another attempt was faster, and has removed the parts
            raise
        return []
    return costs


def _check_failures(index: CommittedIndex) -> None:
    """Raise `TooManyFailures` if sentences are still missing because too many of them failed."""
    if missing := index.sentences.missing():
        raise TooManyFailures(
            f"errors.max_rate: the sentences of too many passages couldn't be embedded, in {len(missing):,} parts of "
            "the index; the log has the first error. Run the job again to retry only these parts, raise the rate, or "
            "set retrieve.sentences to false"
        )
