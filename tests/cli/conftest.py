"""The command line, run in this process; the work behind it is replaced, since other tests do it."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from ragjob.cli import main as cli
from ragjob.cli.output import events
from ragjob.commands.registry import COMMANDS
from ragjob.commands.report import Report
from ragjob.config import JobSettings
from ragjob.models.capacity import Resources
from ragjob.planning.checks import Check, Plan
from ragjob.runtime.progress import Observe, Progress

DONE = Report("run", "v1", 1200, 0, run_id="r1", answers="out/r1/answers.parquet")
Ragjob = Callable[..., tuple[int, str]]
Execute = Callable[[JobSettings, Observe], Report]
log = logging.getLogger("ragjob.commands.run")


class Doing(Protocol):
    """Let `ragjob run` do this from now on: raise an error, log, report progress, and end with a report."""

    def __call__(
        self, report: Report = ..., error: BaseException | None = ..., steps: list[Progress] | None = ...
    ) -> None: ...


class Command:
    """A stand-in for a command: it passes `checks`, and does `execute`."""

    def __init__(self, execute: Execute = lambda settings, observe: DONE, checks: list[Check] | None = None) -> None:
        self._execute = execute
        self._checks = checks or []
        self._settings = JobSettings()

    def of(self, settings: JobSettings) -> "Command":
        self._settings = settings
        return self

    def plan(self) -> Plan:
        return Plan(Resources.equal(2), self._checks)

    def execute(self, observe: Observe) -> Report:
        return self._execute(self._settings, observe)


@pytest.fixture
def ragjob(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ragjob]:
    """Run the command line here, in a folder of its own; gives its exit code and what it says on stderr."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("ragjob")
    level = logger.level
    logger.addHandler(events)
    logger.setLevel(logging.INFO)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ragjob", *map(str, arguments)])
        stderr = io.StringIO()
        return cli._exit_code(stderr), stderr.getvalue()

    yield run
    logger.removeHandler(events)
    logger.setLevel(level)


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Doing:
    def replace(report: Report = DONE, error: BaseException | None = None, steps: list[Progress] | None = None) -> None:
        def execute(_: JobSettings, observe: Observe) -> Report:
            log.info("started", extra={"command": "run"})
            log.warning("server died", extra={"code": 9})
            for step in steps or []:
                observe(step)
            if error:
                raise error
            return report

        monkeypatch.setitem(COMMANDS, "run", Command(execute))

    return replace


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The events among what was printed, without their times."""
    printed = [json.loads(line) for line in lines(capsys) if line.startswith("{")]
    return [{name: value for name, value in event.items() if name != "time"} for event in printed]
