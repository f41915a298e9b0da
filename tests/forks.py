"""Processes without their start: forked from one that has imported what they need, but no heavy library.

Each is a process of its own, with its own exit code, output and death; to start Python and import the package takes
seconds of a processor.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

HEAVY = {"ray", "torch", "chromadb"}
PRELOADED = ["tests.forks", "tests.integration.attempt", "ragjob.cli.main", "ragjob.commands.api", "ragjob.storage.s3"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([*PRELOADED, "pyarrow.parquet", "pandas"])


class Fork:
    """A process that calls `target`, with the environment of this one."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = FORKS.Process(target=_call, args=(dict(os.environ), target, arguments))
        self._process.start()

    def end(self, seconds: float = 60) -> int | None:
        """Wait for its end: its exit code, or minus the signal that has ended it."""
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def is_stopped(self) -> bool:
        return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    out: str
    err: str


@dataclass(frozen=True)
class Light(Ended):
    """How one ended, and what it had imported of `HEAVY`."""

    heavy: set[str]


def ragjob(*arguments: object, folder: Path | None = None) -> Light:
    """Run the `ragjob` command to its end, in a folder."""
    with TemporaryDirectory() as outputs:
        files = [Path(outputs, name) for name in ("out", "err", "heavy")]
        code = Fork(_ragjob, list(map(str, arguments)), folder or Path.cwd(), files).end()
        out, err, heavy = (file.read_text("utf-8") for file in files)
        return Light(code, out, err, set(heavy.split()))


def _call(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def _ragjob(arguments: list[str], folder: Path, files: list[Path]) -> None:
    from ragjob.cli.main import main

    os.chdir(folder)
    for number, file in zip((1, 2), files[:2], strict=True):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["ragjob", *arguments]
    try:
        main()
    finally:
        files[2].write_text(" ".join(sorted(HEAVY & sys.modules.keys())))
