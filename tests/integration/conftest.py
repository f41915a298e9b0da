"""Jobs run as a user runs them: the `ragjob` command, in a process group of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.sample import CORPUS, PROMPTS

SAMPLE = [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Job:
    """A job in a folder of its own: the sample's corpus, `prompts` variations of its prompts."""

    folder: Path
    assignments: dict[str, object]

    def command(self, command: str, **more: object) -> list[str]:
        """The command line; `more` names settings with `__` for the dot."""
        settings = self.assignments | {key.replace("__", "."): value for key, value in more.items()}
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return [sys.executable, "-m", "job", command, *sets]

    def start(self, command: str, **more: object) -> "subprocess.Popen[str]":
        """Start it as the leader of a process group."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            self.command(command, **more), text=True, start_new_session=True, cwd=self.folder, **pipes
        )

    def __call__(self, command: str, **more: object) -> Ended:
        """Run it to its end."""
        process = self.start(command, **more)
        out, err = process.communicate(timeout=240)
        return Ended(process.returncode, out, err)

    @property
    def staged(self) -> list[Path]:
        """Parts that are staged now."""
        return list((self.folder / "out").glob("_staging/*/part-*"))

    def answers(self) -> pa.Table:
        """The one published file of answers, read as any reader would."""
        (file,) = (self.folder / "out").glob("*/answers.parquet")
        return pq.read_table(file)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the sample that is there already, for `answer`."""
    job = make_job(tmp_path_factory.mktemp("index"))
    ended = job("index")
    assert (ended.code, ended.err) == (0, "")
    return job.folder / "index"


def make_job(folder: Path, prompts: int = 48) -> Job:
    """A job whose answers come in parts of 4, and whose vectors come out alike on every machine."""
    rows = [{"prompt": f"{SAMPLE[n % len(SAMPLE)]['prompt']} ({n})", "number": n} for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    uris = {"corpus": CORPUS, "prompts": folder / "prompts.jsonl", "index": folder / "index", "output": folder / "out"}
    settings: dict[str, object] = {f"{key}.uri": value for key, value in uris.items()}
    return Job(folder, settings | {"commit_rows": 4, "embed.dtype": "float32"})


def kill_group(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the whole process group, as a terminal that is closed, or a pod's end, does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def wait_until(true: Callable[[], object], seconds: float = 90) -> None:
    """Wait for something to happen. Fails the test when it doesn't."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """All processes below `process`."""
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of `processes` that still run; one that only waits for its parent to notice doesn't."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
