"""What a terminal shows while a whole job runs in it."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.conftest import make_job

pytestmark = [pytest.mark.ray, pytest.mark.services]

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Screen:
    """What a command wrote to its terminal, and when, in seconds after its start; its end, and its exit code."""

    written: list[tuple[float, str]]
    ended: float
    code: int

    @property
    def text(self) -> str:
        return ESCAPES.sub("", "".join(text for _, text in self.written))

    def slowness(self) -> float:
        """How much slower than an idle machine this one was, at least 1: on that the job takes less than 30 s."""
        return max(1.0, self.ended / 30)

    def longest_silence(self) -> float:
        """Between two changes: a screen that is drawn again as it was has not changed."""
        changes = [at for (at, text), (_, last) in zip(self.written[1:], self.written, strict=False) if text != last]
        times = [self.written[0][0], *changes, self.ended]
        return max(later - sooner for sooner, later in pairwise(times))


def watch(command: list[str], folder: Path) -> Screen:
    """Run a command in a terminal of its own."""
    ours, theirs = pty.openpty()
    written = []
    start = time.monotonic()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        while process.poll() is None:
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    written.append((time.monotonic() - start, os.read(ours, 65536).decode(errors="replace")))
                except OSError:  # the terminal has been closed
                    break
        process.wait()
    ended = time.monotonic() - start
    os.close(ours)
    return Screen(written, ended, process.returncode)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    job = make_job(tmp_path_factory.mktemp("terminal"))
    return watch([sys.executable, "-m", "ragjob", *job.arguments("run")], job.folder)


def test_a_job_in_a_terminal_shows_at_once_what_it_does(screen: Screen) -> None:
    assert screen.code == 0, screen.text
    first = next(at for at, text in screen.written if "checking settings and inputs" in text)
    assert first < 1 * screen.slowness()


def test_the_screen_changes_every_two_seconds_until_the_end(screen: Screen) -> None:
    assert screen.longest_silence() < 2 * screen.slowness()


def test_the_screen_tells_each_step_and_keeps_the_stages_that_are_done(screen: Screen) -> None:
    steps = ["checking settings and inputs", "checking the plan", "starting Ray", "publishing the answers"]
    assert [step for step in steps if step not in screen.text] == []
    assert re.search(r"index: embed .* rows .*/s done", screen.text)
    assert re.search(r"answer: write .* 48 rows .*/s done", screen.text)
    assert re.search(r"about \d:\d\d left, then answering", screen.text)
