"""A whole job, started in the user's folder: what the terminal shows, what the job takes, and what it leaves."""

import json
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

import pyarrow.parquet as pq
import pytest

from ragjob.ledger import schema
from tests.cli.test_import_path import set_traps

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
        """How much slower than an idle machine this one was, at least 1: on that the job takes less than 60 s."""
        return max(1.0, self.ended / 60)

    def longest_silence(self) -> float:
        """Between two changes: a screen that is drawn again as it was has not changed."""
        changes = [at for (at, text), (_, last) in zip(self.written[1:], self.written, strict=False) if text != last]
        times = [self.written[0][0], *changes, self.ended]
        return max(later - sooner for sooner, later in pairwise(times))


def watch(command: list[str], folder: Path, **variables: str) -> Screen:
    """Run a command in a terminal of its own, with more variables in its environment."""
    ours, theirs = pty.openpty()
    written = []
    start = time.monotonic()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"} | variables
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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's: what its traps say is in `imported` beside it, and temporary files go to `tmp` there."""
    folder = tmp_path_factory.mktemp("terminal") / "mine"
    folder.mkdir()
    (folder.parent / "tmp").mkdir()
    set_traps(folder, folder.parent / "imported")
    return folder


@pytest.fixture(scope="module")
def screen(folder: Path) -> Screen:
    variables = {"TMPDIR": str(folder.parent / "tmp"), "RAY_TMPDIR": "/tmp"}
    return watch([sys.executable, "-m", "ragjob", "run"], folder, **variables)


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
    assert re.search(r"answer: write .* 34 rows .*/s done", screen.text)
    assert re.search(r"about \d:\d\d left, then answering", screen.text)


def test_it_takes_inputs_from_the_users_folder_but_no_module(screen: Screen, folder: Path) -> None:
    assert not (folder.parent / "imported").exists()
    (answers,) = (folder / "out").glob("*/answers.parquet")
    assert pq.read_table(answers)[schema.ERROR].null_count == 34
    manifests = [json.loads(file.read_text()) for file in (folder / "index").rglob("manifest.json")]
    assert [manifest["failed"] for manifest in manifests] == [0]
    assert (folder / "chroma" / "chroma.sqlite3").is_file()


def test_it_leaves_no_temporary_file(screen: Screen, folder: Path) -> None:
    assert screen.code == 0
    assert list((folder.parent / "tmp").glob("ragjob-*")) == []
