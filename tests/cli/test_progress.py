"""What a running command prints: events, and how far each stage is."""

import json
import logging

import pytest
from rich.console import Console

from ragjob.cli import output, progress
from ragjob.cli.progress import CHECKING, _Job
from ragjob.runtime.progress import Progress
from tests.cli.conftest import Doing, Ragjob, json_lines, lines

STEPS = [
    Progress("embed", 0, 0.0, "index"),
    Progress("embed", 10, 0.25, "index"),
    Progress("embed", 20, 0.5, "index"),
]


def test_quiet_prints_nothing_but_warnings(ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]) -> None:
    doing()
    assert ragjob("run", "--quiet") == (0, "")
    (line,) = lines(capsys)
    assert json.loads(line)["event"] == "server died"


def test_events_are_json_lines_where_there_is_no_terminal(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    doing()
    ragjob("run")
    assert json_lines(capsys) == [
        {"level": "info", "event": CHECKING},
        {"level": "info", "event": "started", "command": "run"},
        {"level": "warning", "event": "server died", "code": 9},
    ]


def test_on_a_terminal_warnings_are_text_and_the_rest_is_left_to_the_bars(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (output, progress):
        monkeypatch.setattr(module, "out", Console(force_terminal=True, width=100))
    doing(steps=[Progress("embed", 7, 0.5, "index")])
    ragjob("run")
    printed = capsys.readouterr().out
    assert "server died code=9" in printed
    assert "embed" in printed
    assert "started" not in printed


def test_a_terminal_is_spared_fields_of_several_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "out", Console(force_terminal=True))
    output.events.emit(logging.makeLogRecord({"msg": "a row failed", "row": 7, "traceback": "Traceback\n  there"}))
    assert capsys.readouterr().out == "a row failed row=7\n"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "time", Clock([100, 100, 102, 104]))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 4)
    doing(steps=STEPS)
    ragjob("run")
    of_stage, of_job = [event for event in json_lines(capsys) if event["event"] in ("progress", "job")]
    figures = {"rows": 20, "share": 0.5, "rows_per_s": 5.0}
    assert of_stage == {"level": "info", "event": "progress", "flow": "index", "stage": "embed", **figures}
    times = {"seconds": 4, "seconds_left": 4}
    assert of_job == {"level": "info", "event": "job", "command": "run", "doing": "index", **times}


def test_progress_sooner_than_that_is_no_line(ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]) -> None:
    doing(steps=STEPS)
    ragjob("run")
    assert [event["event"] for event in json_lines(capsys)] == [CHECKING, "started", "server died"]


def test_what_a_command_does_between_its_flows_is_a_line_once(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    doing(steps=[Progress("starting Ray", 0, 0.0), Progress("starting Ray", 0, 0.0), *STEPS])
    ragjob("run")
    assert [event["event"] for event in json_lines(capsys)].count("starting Ray") == 1


def test_a_stage_that_has_ended_has_no_more_lines(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    doing(steps=[Progress("read", 10, 0.5, "index"), *[Progress("read", 20, 1.0, "index")] * 3])
    ragjob("run")
    assert [event["rows"] for event in json_lines(capsys) if event["event"] == "progress"] == [10]


def test_a_stage_that_has_ended_keeps_its_rate() -> None:
    job = _Job("run")
    stage = job.update(Progress("read", 10, 0.25, "index"), 100)
    for now in (102, 104, 200):
        job.update(Progress("read", 40, 1.0, "index"), now)
    assert stage is not None
    assert (stage.ended, stage.rate(102), stage.rate(300)) == (102, 15, 15)


def test_the_first_rows_which_waited_for_workers_to_start_leave_a_rate_as_it_is() -> None:
    job = _Job("run")
    job.update(Progress("embed", 0, 0.0, "index"), 100)
    job.update(Progress("embed", 10, 0.25, "index"), 130)
    stage = job.update(Progress("embed", 20, 0.5, "index"), 132)
    assert stage is not None
    assert stage.rate(132) == 5


def test_the_time_left_is_that_of_the_slowest_stage() -> None:
    job = _Job("run")
    job.update(Progress("read", 40, 1.0, "answer"), 100)
    job.update(Progress("generate", 10, 0.25, "answer"), 130)
    job.update(Progress("generate", 20, 0.5, "answer"), 140)
    assert job.seconds_left(150) == 20


def test_stages_of_a_flow_that_has_ended_are_done_and_the_next_flows_begin_anew() -> None:
    job = _Job("run")
    before = job.update(Progress("embed", 10, 0.5, "index"), 100)
    after = job.update(Progress("embed", 4, 0.1, "answer"), 110)
    assert before is not None
    assert after is not None
    assert (before.ended, after.ended, after.rows) == (110, None, 4)


class Clock:
    """Tells these seconds, one after another."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        return self._seconds.pop(0)
