"""What a running command shows: what it is doing, how far each stage is, and how long the rest will take."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ragjob.cli.output import events, out
from ragjob.runtime.progress import Observe, silent
from ragjob.runtime.progress import Progress as StageProgress

LINE_EVERY_S = 10  # between two lines about a stage or the job, where there is no terminal
DRAWN_PER_S = 4
CHECKING = "checking settings and inputs"

log = logging.getLogger(__name__)


@contextmanager
def progress(command: str, *, quiet: bool) -> Iterator[Observe]:
    """Show events and progress during the block, or only warnings if `quiet`. Yields what stages report to."""
    # On a terminal, the display and the summary say more than events do.
    events.setLevel(logging.WARNING if quiet or out.is_terminal else logging.INFO)
    if quiet:
        yield silent
    elif out.is_terminal:
        with _Screen(command) as screen:
            yield screen.observe
    else:
        yield _Lines(command).observe


@dataclass
class _Stage:
    """A stage of one flow. Its rate leaves out the first rows, which waited for workers to start."""

    began: float
    rows: int = 0
    share: float = 0.0
    first: tuple[float, int] | None = None  # when its first rows came, and how many they were
    ended: float | None = None

    def update(self, progress: StageProgress, now: float) -> None:
        if self.ended is None:
            self.rows, self.share = progress.rows, min(progress.share, 1.0)
            if self.rows and self.first is None:
                self.first = (now, self.rows)
            if self.share >= 1:
                self.ended = now

    def rate(self, now: float) -> float:
        """Rows per second so far, or the final rate of a stage that has ended."""
        at = self.ended or now
        then, rows = self.first or (self.began, 0)
        if self.rows == rows or at <= then:
            then, rows = self.began, 0
        return (self.rows - rows) / (at - then) if at > then else 0.0


class _Job:
    """What is known of the running job: what it does now, its stages, and when the current flow will end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.began = time.monotonic()
        self.doing = CHECKING
        self.flow = ""
        self.stages: dict[tuple[str, str], _Stage] = {}

    def update(self, progress: StageProgress, now: float) -> _Stage | None:
        """Take in a report. Returns the stage that it is about, if any."""
        if progress.flow != self.flow:
            self._end_flow(now)
            self.flow = progress.flow
        if not progress.flow:
            self.doing = progress.stage
            return None
        stage = self.stages.setdefault((progress.flow, progress.stage), _Stage(now))
        stage.update(progress, now)
        self.doing = self._state()
        return stage

    def seconds_left(self, now: float) -> float | None:
        """Seconds left in the current flow, by its slowest stage; None before that has finished a block."""
        if not (stages := self._current()):
            return None
        last = min(stages.values(), key=lambda stage: stage.share)
        return (now - last.began) * (1 - last.share) / last.share if last.share else None

    def _current(self) -> dict[str, _Stage]:
        return {name: stage for (flow, name), stage in list(self.stages.items()) if flow == self.flow}

    def _state(self) -> str:
        waiting = [name for name, stage in self._current().items() if not stage.rows]
        # All workers of a flow start at once, and load their models before their first rows.
        return f"{self.flow}: loading models, starting {waiting[0]}" if waiting else self.flow

    def _end_flow(self, now: float) -> None:
        for stage in self._current().values():
            stage.ended = stage.ended or now


class _Screen:
    """Draws the job and its stages on a terminal, several times a second."""

    def __init__(self, command: str) -> None:
        self._job = _Job(command)
        self._live = Live(console=out, get_renderable=self._draw, refresh_per_second=DRAWN_PER_S, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, progress: StageProgress) -> None:
        if self._job.update(progress, time.monotonic()) is None:
            self._live.refresh()  # what is over before the next drawing is shown, too

    def _draw(self) -> Group:
        now = time.monotonic()
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", min_width=28)
        for (flow, name), stage in list(self._job.stages.items()):
            bar = ProgressBar(total=1, completed=stage.share, width=30)
            state = "done" if stage.ended else f"{stage.share:.0%}"
            rate = f"{stage.rate(now):>7,.0f}/s" if stage.rows else ""
            table.add_row(f"{flow}: {name}", bar, f"{stage.rows:>9,} rows", rate, state)
        return Group(table, Text(self._line(now), overflow="ellipsis", no_wrap=True))

    def _line(self, now: float) -> str:
        """The line for the whole job."""
        job = self._job
        left = job.seconds_left(now)
        rest = "" if left is None else f", about {_clock(left)} left"
        follows = ", then answering" if rest and job.command == "run" and job.flow != "answer" else ""
        return f"{job.command} {_clock(now - job.began)}  {job.doing}{rest}{follows}"


class _Lines:
    """Logs what the job does, and now and then how far its stages are, where there is no terminal."""

    def __init__(self, command: str) -> None:
        self._job = _Job(command)
        self._told: dict[int, float] = {}  # when each stage had its last line
        self._job_told = self._job.began
        log.info(CHECKING)

    def observe(self, progress: StageProgress) -> None:
        now = time.monotonic()
        before = self._job.doing
        stage = self._job.update(progress, now)
        if stage is None:
            if before != progress.stage:
                log.info(progress.stage)
            return
        if stage.ended is None and now - self._told.setdefault(id(stage), now) >= LINE_EVERY_S:
            self._told[id(stage)] = now
            figures = {"rows": stage.rows, "share": round(stage.share, 3), "rows_per_s": round(stage.rate(now), 1)}
            log.info("progress", extra={"flow": progress.flow, "stage": progress.stage, **figures})
        if now - self._job_told >= LINE_EVERY_S:
            self._job_told = now
            left = self._job.seconds_left(now)
            times = {"seconds": round(now - self._job.began), "seconds_left": None if left is None else round(left)}
            log.info("job", extra={"command": self._job.command, "doing": self._job.doing, **times})


def _clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> _clock(7), _clock(3723.4)
    ('0:07', '1:02:03')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
