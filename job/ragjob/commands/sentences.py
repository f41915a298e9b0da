"""See that an index version has its sentences, where retrieval is to use them."""

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
    """The files that retrieval is to use; None where it is to use none, or they aren't there."""
    settings, (segment,) = index.settings, index.manifest.segments
    manifest = index.sentences.manifest() if mode_of(settings).uses_sentences else None
    if manifest is None:
        return None
    return SentenceFiles(index.ledger.uri, segment.segment, manifest, settings.index.cache)


def have_sentences(index: CommittedIndex) -> bool:
    """Tell whether the sentences that retrieval is to use are there and whole."""
    files = sentence_files(index)
    return not mode_of(index.settings).uses_sentences or (files is not None and files.are_whole())


def embed_missing(index: CommittedIndex, size: Resources, observe: Observe) -> list[Cost]:
    """Join the sentences, if they are to be used, and embed those that aren't there; what that took. Ray runs already.

    `index` embeds them beside its chunks, unless retrieval wasn't to use them then. Those that are damaged are
    embedded anew.
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
    """Raise `TooManyFailures` where sentences are still missing because too many of them failed."""
    if missing := index.sentences.missing():
        raise TooManyFailures(
            f"errors.max_rate: the sentences of too many passages couldn't be embedded, in {len(missing):,} parts of "
            "the index; the log has the first error. Run it again, which tries these parts alone, raise the rate, or "
            "set retrieve.sentences to false"
        )
