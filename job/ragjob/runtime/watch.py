"""Follow a running flow through Ray Data's counters. Imports Ray Data's internals, since it has no public way."""

import time
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

from ragjob.runtime.progress import Observe, Progress, silent

OBSERVE_S = 0.3  # between two reports


class Watch(ExecutionCallback):  # type: ignore[misc]
    """Ray Data makes one for each execution, without arguments: what to report is set on the class."""

    observe: Observe = staticmethod(silent)
    stages: tuple[str, ...] = ()
    blocks = 1

    def __init__(self) -> None:
        self._reported = 0.0

    def on_execution_step(self, executor: Any) -> None:
        """Report, if the last report is long enough ago."""
        if time.monotonic() - self._reported >= OBSERVE_S:
            self._reported = time.monotonic()
            self._report(executor)

    def after_execution_succeeds(self, executor: Any) -> None:
        """Report the end."""
        self._report(executor)

    def _report(self, executor: Any) -> None:
        operators = list(executor._topology)[1:]  # the first is the input
        for stage, operator in zip(Watch.stages, operators, strict=False):
            counters, last = operator.metrics, operator is operators[-1]
            # The last step gives receipts, not rows: what it was given counts.
            rows = counters.rows_inputs_of_submitted_tasks if last else counters.rows_task_outputs_generated
            Watch.observe(Progress(stage, rows, counters.num_task_outputs_generated / Watch.blocks))


def watch(observe: Observe, stages: list[str], blocks: int) -> None:
    """Have the next execution, of `blocks` blocks, report how far each of `stages` is."""
    Watch.observe, Watch.stages, Watch.blocks = staticmethod(observe), tuple(stages), blocks
    DataContext.get_current().custom_execution_callback_classes = [Watch]
