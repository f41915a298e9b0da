"""What a running command shows: how far each stage is."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ragjob.cli.output import events, out
from ragjob.runtime.progress import Observe, silent
from ragjob.runtime.progress import Progress as StageProgress

LINE_EVERY_S = 10  # between two lines about a stage, where there is no terminal

log = logging.getLogger(__name__)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Observe]:
    """Show events and progress during the block, or warnings alone if `quiet`; gives what stages report to."""
    # On a terminal, bars and the summary say more than events do.
    events.setLevel(logging.WARNING if quiet or out.is_terminal else logging.INFO)
    if quiet:
        yield silent
    else:
        with _Display() as display:
            yield display.observe


@dataclass
class _Stage:
    """A running stage: its share of the work done, when it had its first row, its last line, and its bar."""

    share: float = 0.0
    started: float | None = None
    told: float = 0.0
    bar: TaskID | None = None


class _Display:
    """Shows how far each stage is: bars on a terminal, elsewhere a JSON line now and then."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:>20}"),
            BarColumn(),
            TextColumn("{task.fields[rows]:>9,} rows {task.fields[rate]:>7,.0f}/s"),
            TimeRemainingColumn(compact=True),
        )
        self._bars = Progress(*columns, console=out, disable=not out.is_terminal, transient=True)
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def observe(self, progress: StageProgress) -> None:
        now = time.monotonic()
        stage = self._stages.get(progress.stage)
        if stage is None or progress.share < stage.share:  # a second flow may have a stage of the same name
            stage = self._stages[progress.stage] = _Stage()
        stage.share = progress.share
        if progress.rows and stage.started is None:
            stage.started = stage.told = now
        seconds = 0.0 if stage.started is None else now - stage.started
        if out.is_terminal:
            self._draw(stage, progress, seconds)
        elif stage.started is not None and now - stage.told >= LINE_EVERY_S:
            stage.told = now
            left = seconds * (1 - progress.share) / progress.share if progress.share else None
            rate = {"rows_per_s": _rate(progress, seconds), "seconds_left": left}
            log.info("progress", extra={"stage": progress.stage, "rows": progress.rows} | rate)

    def _draw(self, stage: _Stage, progress: StageProgress, seconds: float) -> None:
        if stage.bar is None:
            stage.bar = self._bars.add_task(progress.stage, total=1, rows=0, rate=0.0)
        done = min(progress.share, 1)
        self._bars.update(stage.bar, completed=done, rows=progress.rows, rate=_rate(progress, seconds))


def _rate(progress: StageProgress, seconds: float) -> float:
    return progress.rows / seconds if seconds else 0.0
