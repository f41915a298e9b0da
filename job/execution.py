"""Run a list of steps over blocks on Ray Data: pools, progress, and errors of ours out of Ray's."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pyarrow as pa

from job.config import Pool
from job.errors import DependencyError, RagjobError
from job.fit import TASK_CPUS
from job.progress import Observe
from job.stages.rows import Cost, costs, count_errors, with_costs


class Stage(Protocol):
    """One step of a flow: an Arrow table in, an Arrow table out."""

    def __call__(self, rows: pa.Table, /) -> pa.Table: ...


@dataclass(frozen=True)
class Step:
    """Stages that run in one process after each other: on actors of `pool`, or, without one, as tasks.

    `make` builds the stages, by name, where they run.
    """

    names: list[str]
    make: Callable[[], list[Stage]]
    pool: Pool | None = None


def execute(
    blocks: list[pa.Table], steps: list[Step], tasks: int, prepare: Callable[[], None], observe: Observe
) -> list[Cost]:
    """Take each of `blocks` through `steps`; gives what each stage has spent in all.

    At most `tasks` blocks are at once in a step without a pool. `prepare` runs in each worker process before
    its stages are made. Raises the `RagjobError` that a stage raised, and
    `DependencyError` for whatever else ends the flow.
    """
    import ray
    import ray.data

    from job.watch import watch

    _set_up()
    watch(observe, [" + ".join(step.names) for step in steps], len(blocks))
    flow = ray.data.from_arrow(blocks)
    for step in steps:
        flow = _add(flow, step, min(tasks, len(blocks)), prepare)
    spent: dict[str, Cost] = {}
    try:
        for receipts in flow.iter_batches(batch_size=None, batch_format="pyarrow"):
            for receipt in receipts.to_pylist():
                _count(spent, Cost(**receipt))
    except ray.exceptions.RayError as error:
        raise _ours(error) from error
    return list(spent.values())


class _Worker:
    """What one actor or task of a step does with a block."""

    def __init__(self, step: Step, last: bool, prepare: Callable[[], None]) -> None:
        self._step = step
        self._last = last
        # Made beside the wait for the first block. An error in it surfaces there: one raised in an
        # actor's constructor would make Ray start the actor again and again.
        self._stages: Future[list[Stage]] = ThreadPoolExecutor(1).submit(_make, step, prepare)

    def __call__(self, rows: pa.Table) -> pa.Table:
        spent = costs(rows)
        for name, stage in zip(self._step.names, self._stages.result(), strict=True):
            start = time.perf_counter()
            rows = stage(rows)
            spent.append(Cost(name, rows.num_rows, count_errors(rows), time.perf_counter() - start))
        return _receipts(spent) if self._last else with_costs(rows, spent)


def _make(step: Step, prepare: Callable[[], None]) -> list[Stage]:
    prepare()
    return step.make()


def _task(rows: pa.Table, step: Step, last: bool, prepare: Callable[[], None]) -> pa.Table:
    return _Worker(step, last, prepare)(rows)


def _add(flow: Any, step: Step, tasks: int, prepare: Callable[[], None]) -> Any:
    import ray.data

    how: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    last = "write" in step.names
    if step.pool is None:
        how |= {"compute": ray.data.TaskPoolStrategy(size=tasks), "num_cpus": TASK_CPUS}
        return flow.map_batches(_task, fn_kwargs={"step": step, "last": last, "prepare": prepare}, **how)
    pool = step.pool
    how |= {
        "compute": ray.data.ActorPoolStrategy(min_size=pool.min, max_size=pool.max),
        "num_cpus": pool.num_cpus,
        "num_gpus": pool.num_gpus or None,
    }
    return flow.map_batches(_Worker, fn_constructor_args=(step, last, prepare), **how)


def _receipts(spent: list[Cost]) -> pa.Table:
    return pa.Table.from_pylist([asdict(cost) for cost in spent])


def _count(spent: dict[str, Cost], more: Cost) -> None:
    so_far = spent.get(more.stage, Cost(more.stage, 0, 0, 0.0))
    spent[more.stage] = Cost(
        more.stage, so_far.rows + more.rows, so_far.errors + more.errors, so_far.seconds + more.seconds
    )


def _set_up() -> None:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it says of errors, ours say in one line
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None  # a block stays whole from its read to its part
    context.raise_original_map_exception = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _ours(error: BaseException) -> RagjobError:
    """The error of ours that a stage raised, or one that tells what ended Ray's work."""
    from ray.exceptions import RayError

    cause: BaseException | None = error
    while cause is not None:
        # Ray's wrapper is an instance of what it wraps, too, but its message is the whole traceback.
        if isinstance(cause, RagjobError) and not isinstance(cause, RayError):
            return type(cause)(str(cause).splitlines()[0])  # Ray adds lines of its own
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return DependencyError(f"Ray: {type(error).__name__}: {lines[-1].strip()[:300] if lines else error}")
