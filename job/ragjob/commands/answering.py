"""Answer the prompts that a run has left, and publish the run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from ragjob.commands.flows import answer_steps
from ragjob.commands.indexing import connecting, make
from ragjob.commands.report import Report, log_start, logged, report_of_run, with_corpus
from ragjob.commands.serving import load_missing, prepare, searched, served
from ragjob.documents.units import plan_slices, without
from ragjob.errors import Defect, DependencyError, RagjobError, TooManyFailures
from ragjob.ledger import schema
from ragjob.ledger.index import set_current
from ragjob.ledger.run import Mask
from ragjob.models.capacity import Resources
from ragjob.planning.checks import Plan
from ragjob.planning.identity import AnswerTask, CommittedIndex, PendingIndex, mode_of
from ragjob.planning.metadata import check_names
from ragjob.planning.packing import free_tasks
from ragjob.retrieval.base import Served
from ragjob.runtime import cluster
from ragjob.runtime.flow import execute
from ragjob.runtime.log import AttemptLog
from ragjob.runtime.progress import Observe, of_flow, tell
from ragjob.stages.cost import Cost

NO_LIMIT = 2**62


def answer(
    command: str,
    index: PendingIndex | CommittedIndex,
    task: AnswerTask,
    plan: Callable[[], Plan],
    observe: Observe,
    *,
    make_current: bool,
) -> Report:
    """Answer from an index version, which is made and loaded first if necessary.

    `make_current` says whether it becomes the current one.
    """
    with _attempt(command, task, plan, observe) as size:
        if isinstance(index, CommittedIndex):
            index.require()
        tell(observe, connecting())
        with searched(index, observe) as server, cluster.running(size):
            made, costs = make(index, size, observe)
            check_names(made)  # a plan can't know what the documents of an index that isn't made have
            costs += prepare(made, observe)
            loaded = served(made, server())
            if loaded.sentences is None and mode_of(made.settings).uses_sentences:
                raise DependencyError("index.uri: the sentences were removed by another process; run the job again")
            costs += load_missing(loaded, observe)
            if make_current:
                set_current(made.ledger.uri, made.ledger.version)
            report = _answer(command, made, task, size, loaded, costs, observe)
            tell(observe, "stopping Ray")
        return logged(report if made is index else with_corpus(report, made))


@contextmanager
def _attempt(command: str, task: AnswerTask, plan: Callable[[], Plan], observe: Observe) -> Iterator[Resources]:
    """Keep the log of an attempt at a run, which begins once all checks of `plan` pass. Yields the cluster's size.

    Raises what the plan finds, and `DataError` if another run is in progress under the run's name.
    """
    with AttemptLog(task.ledger.log_folder):
        log_start(command, task.version, task.ledger.run_id)
        tell(observe, "checking the plan")
        checked = plan()
        checked.require()
        task.ledger.claim(task.version)
        yield checked.size


def _answer(
    command: str,
    index: CommittedIndex,
    task: AnswerTask,
    size: Resources,
    loaded: Served,
    costs: list[Cost],
    observe: Observe,
) -> Report:
    """Answer the prompts that have no answer yet from a loaded index, and publish the run.

    `costs` are those of making and loading the index. Raises `TooManyFailures` before anything is published.
    """
    if published := task.ledger.published():  # by another attempt, since this one began
        return report_of_run(command, index, task, published, costs)
    total = task.inputs.rows
    kept = 0
    try:
        answered, staged = task.ledger.progress(total)
        kept = int(np.count_nonzero(answered))
        # Failed rows are tried again, unless they are all that is left and few enough.
        if not staged.all() or _too_many(task, answered):
            steps = answer_steps(index, task, size, loaded)
            tasks = free_tasks(task.settings, "answer", size)
            costs = costs + execute(_left(task, answered), steps, tasks, task.settings.s3, of_flow("answer", observe))
            answered = task.ledger.progress(total)[0]
        if problem := _too_many(task, answered):
            raise problem
    except Defect:
        raise
    except RagjobError:
        # Another attempt may have been faster, and have swept what this one still needed.
        if task.ledger.published() is None:
            raise
    tell(observe, "publishing the answers")
    published = task.ledger.publish(total, schema.answers(task.inputs.passed))
    return report_of_run(command, index, task, published, costs, kept=kept)


def _left(task: AnswerTask, answered: Mask) -> list[pa.Table]:
    """Units of the prompts that have no answer yet."""
    slices = plan_slices(task.inputs.segments, task.settings.commit_rows, NO_LIMIT)
    return [unit for whole in slices if (unit := without(whole, answered)).num_rows]


def _too_many(task: AnswerTask, answered: Mask) -> TooManyFailures | None:
    """The error when more prompts have no answer than the settings allow."""
    total, most = len(answered), task.settings.errors.max_rate
    failed = total - int(np.count_nonzero(answered))
    if failed / total <= most:
        return None
    first = task.ledger.staged_errors(1)
    return TooManyFailures(
        f"errors.max_rate: {failed:,} of {total:,} prompts failed, more than {most:.1%}; correct or retry them, or "
        f"raise the rate; the errors are in {task.ledger.staged_parts}; the first is "
        f"{': '.join(first[0]) if first else 'unknown'}"
    )
