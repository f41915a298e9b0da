"""Run a list of steps over blocks on Ray Data: pools, progress, and our errors extracted from Ray's."""

import gc
import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any, NoReturn

import pyarrow as pa

from ragjob import storage
from ragjob.errors import Defect, DependencyError, EngineDied, RagjobError
from ragjob.models.capacity import TASK_CPUS
from ragjob.runtime import places
from ragjob.runtime.last_lines import last_lines
from ragjob.runtime.progress import Observe
from ragjob.settings import Pool
from ragjob.stages.columns import Stage, check_columns
from ragjob.stages.cost import Cost
from ragjob.stages.rows import Fault, Receipt, cost, noting_faults, receipt_of, with_receipt
from ragjob.storage.settings import S3

log = logging.getLogger(__name__)

NO_LAST_WORDS = b"give workers more memory, or lower the pools' batches"
# A flow that doesn't move for so long is given up. By default Ray waits half an hour, which nodes that are still to
# come and models that are still to load may take, or one block of a slow model.
NO_PROGRESS_S = 4 * 3600.0
BLOCK_RETRIES = 3  # of a block whose worker died, before the job ends: by default Ray goes on for ever
_RECEIPT = "receipt"  # the one column that the last step gives


@dataclass(frozen=True)
class Step:
    """Stages that run one after the other in one process: on actors of `pool`, or, without one, as tasks.

    `make` builds one of each of `stages` where they run. An actor has up to `at_once` blocks at once in its stages;
    a block whose worker died is tried `retries` times more. Their processes start with the variables of `environment`.
    With a `turn`, places for the actors are taken before the flow starts, in the order of turns from 1.
    """

    stages: Sequence[type[Stage]]
    make: Callable[[], list[Stage]]
    pool: Pool | None = None
    at_once: int = 1
    retries: int = BLOCK_RETRIES
    environment: dict[str, str] = field(default_factory=dict)
    turn: int = 0

    @property
    def names(self) -> list[str]:
        """The names of its stages."""
        return [stage.NAME for stage in self.stages]

    @property
    def label(self) -> str:
        """What people see it called."""
        return " + ".join(self.names)


def execute(blocks: list[pa.Table], steps: list[Step], tasks: int, s3: S3, observe: Observe) -> list[Cost]:
    """Take each of `blocks` through `steps`; returns what each stage has spent in total.

    At most `tasks` blocks are at once in a step without a pool; `s3` is how workers reach S3. The first fault of each
    kind in each stage is logged.

    Raises:
        TypeError: the columns of the stages don't fit together.
        RagjobError: a stage raised it; a `Defect` for an exception that isn't ours.
        DependencyError: something else ended the flow.
    """
    check_columns([stage for step in steps for stage in step.stages], blocks[0].schema)
    import ray
    from ray.data import DataContext
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.experimental.internal_kv import _internal_kv_del

    from ragjob.runtime.watch import watch

    total = _Total()
    # A copy: the settings of a program that uses this as a library stay as they are.
    with DataContext.current(DataContext.get_current().copy()):
        _set_up(DataContext.get_current())
        _internal_kv_del(_last_words())
        watch(observe, [step.label for step in steps], len(blocks))
        try:
            with places.taken(_in_turn(steps)) as taken:
                flow = _flow(blocks, steps, taken, tasks, s3)
                for receipts in flow.iter_batches(batch_size=None, batch_format="pyarrow"):
                    for receipt in receipts[_RECEIPT].to_pylist():
                        total.add(Receipt.from_json(receipt))
        except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
            raise _ours(error) from error
    return list(total.costs.values())


class _Total:
    """The receipts of all blocks: costs summed by stage, and the first fault of each kind in each stage logged."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self._logged: set[tuple[str, str]] = set()

    def add(self, receipt: Receipt) -> None:
        """Count one block."""
        for more in receipt.costs:
            self.costs[more.stage] = self.costs[more.stage] + more if more.stage in self.costs else more
        for fault in receipt.faults:
            if (fault.stage, fault.kind) not in self._logged:
                self._logged.add((fault.stage, fault.kind))
                self._log(fault)

    def _log(self, fault: Fault) -> None:
        about = {"stage": fault.stage, "row": fault.row, "error": fault.error, "traceback": fault.traceback}
        log.warning("a row failed, the first of its kind", extra=about)


def _in_turn(steps: list[Step]) -> dict[str, Pool]:
    """The pools whose places are taken before the flow starts, in that order, by the labels of their steps."""
    return {step.label: step.pool for step in sorted(steps, key=lambda step: step.turn) if step.turn and step.pool}


def _flow(blocks: list[pa.Table], steps: list[Step], taken: places.Taken, tasks: int, s3: S3) -> Any:
    import ray.data

    flow = ray.data.from_blocks(blocks)  # from_arrow runs a task for each block, to look at it
    with warnings.catch_warnings():
        # Ray wants named parameters, but has none for retries.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        for step in steps:
            flow = _add(flow, step, step is steps[-1], taken, min(tasks, len(blocks)), s3)
    return flow


class _Worker:
    """What one actor or task of a step does with a block."""

    def __init__(self, step: Step, last: bool, s3: S3) -> None:
        storage.configure(s3)
        self._step = step
        self._last = last
        self._lock = Lock()
        self._counted = dict.fromkeys(step.names, 0.0)  # until when each stage's seconds are counted
        # Made beside the wait for the first block. An error in it surfaces there: one raised in an
        # actor's constructor would make Ray start the actor again and again.
        self._stages: Future[list[Stage]] = ThreadPoolExecutor(1).submit(_make, step)

    def __call__(self, rows: pa.Table) -> pa.Table:
        try:
            return self._run(rows)
        except EngineDied as error:
            _die(error)
        except RagjobError:
            raise
        except (MemoryError, OSError) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            raise DependencyError(f"a worker failed: {what}; give its node more memory or disk space") from error
        except Exception as error:
            raise Defect("".join(traceback.format_exception(error)).rstrip()) from error

    def _run(self, rows: pa.Table) -> pa.Table:
        receipt = receipt_of(rows)
        for name, stage in zip(self._step.names, self._stages.result(), strict=True):
            start = time.perf_counter()
            with noting_faults(name) as faults:
                rows = stage(rows)
            receipt.costs.append(cost(name, rows, self._seconds(name, start)))
            receipt.faults.extend(faults.values())
        return pa.table({_RECEIPT: [receipt.to_json()]}) if self._last else with_receipt(rows, receipt)

    def _seconds(self, name: str, start: float) -> float:
        """Seconds since `start`, except those that another block of the stage has counted."""
        with self._lock:
            end = time.perf_counter()
            seconds = end - max(start, self._counted[name])
            self._counted[name] = end
        return seconds


def _make(step: Step) -> list[Stage]:
    """Make the step's stages with garbage collection off: what their imports make stays."""
    gc.disable()  # a seventh of the time that it takes to import sentence_transformers
    try:
        return step.make()
    finally:
        gc.enable()


def _task(rows: pa.Table, step: Step, last: bool, s3: S3) -> pa.Table:
    return _Worker(step, last, s3)(rows)


def _die(error: EngineDied) -> NoReturn:
    """End this actor: Ray starts it anew, with the blocks it had. The driver finds what it died of."""
    from ray.experimental.internal_kv import _internal_kv_put

    try:
        _internal_kv_put(_last_words(), str(error))
    finally:
        os._exit(1)


def _last_words() -> str:
    """The key under which actors of this job leave what they died of."""
    import ray

    return f"ragjob:last-words:{ray.get_runtime_context().get_job_id()}"


def _add(flow: Any, step: Step, last: bool, taken: places.Taken, tasks: int, s3: S3) -> Any:
    import ray.data

    options: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    if step.pool is None:
        options["compute"] = ray.data.TaskPoolStrategy(size=tasks)
        options |= {"num_cpus": TASK_CPUS, "max_retries": BLOCK_RETRIES}
        return flow.map_batches(_task, fn_kwargs={"step": step, "last": last, "s3": s3}, **options)
    pool = step.pool
    options |= {
        "compute": ray.data.ActorPoolStrategy(
            min_size=pool.min,
            max_size=pool.max,
            max_concurrent_calls_per_actor=step.at_once,
            enable_true_multi_threading=step.at_once > 1,
        ),
        "num_cpus": pool.num_cpus,
        "num_gpus": pool.num_gpus or None,
        "max_task_retries": step.retries,
    } | (taken.get(step.label) or places.anywhere(pool))
    if step.environment:  # such a process is never one that Ray keeps ready
        options["runtime_env"] = {"env_vars": step.environment}
    # `map_batches` refuses whole blocks on GPUs; stages cut a block into batches for their models themselves.
    return flow.map_batches_internal(_Worker, fn_constructor_args=(step, last, s3), **options)


def _set_up(context: Any) -> None:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it says of errors, ours say in one line
    context.target_max_block_size = None  # a block stays whole from its read to its part
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _ours(error: BaseException) -> RagjobError:
    """The error of ours that a stage raised, or one that tells what ended Ray's work."""
    from ray.exceptions import RayActorError, RayError, WorkerCrashedError

    root = error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RayActorError | WorkerCrashedError):
            return _death()
        # Ray's wrapper is an instance of what it wraps, too, but its message is the whole traceback.
        if not isinstance(cause, RayError):
            root = cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    if isinstance(root, RagjobError):
        return type(root)(root.message)
    first = next((line.strip() for line in str(root).splitlines() if line.strip()), "")  # Ray adds lines of its own
    log.warning("Ray ended the work", extra={"traceback": "".join(traceback.format_exception(error))})
    return DependencyError(f"Ray: {type(root).__name__}: {first[:300]}; its traceback is in the job's log")


def _death() -> DependencyError:
    """What to say of workers that died; the last lines that they wrote to stderr are logged."""
    from ray.experimental.internal_kv import _internal_kv_get

    with suppress(Exception):  # whatever fails here must not hide why the flow ended
        for lines in last_lines():
            log.warning("a worker died; the end of its stderr", extra=asdict(lines))
    words = (_internal_kv_get(_last_words()) or NO_LAST_WORDS).decode()
    return DependencyError(f"Ray: the worker died each time it tried one block: {words}")
