"""What a running command prints: events, and how far each stage is."""

import json
import logging

import pytest
from rich.console import Console

from ragjob.cli import output, progress
from ragjob.runtime.progress import Progress
from tests.cli.conftest import Doing, Ragjob, json_lines, lines

STEPS = [Progress("embed", 0, 0.0), Progress("embed", 10, 0.25), Progress("embed", 20, 0.5)]


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
        {"level": "info", "event": "started", "command": "run"},
        {"level": "warning", "event": "server died", "code": 9},
    ]


def test_on_a_terminal_warnings_are_text_and_the_rest_is_left_to_the_bars(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (output, progress):
        monkeypatch.setattr(module, "out", Console(force_terminal=True, width=100))
    doing(steps=[Progress("embed", 7, 0.5)])
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
    monkeypatch.setattr(progress, "time", Clock([100, 101, 103]))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 2)
    doing(steps=STEPS)
    ragjob("run")
    (line,) = [event for event in json_lines(capsys) if event["event"] == "progress"]
    about = {"stage": "embed", "rows": 20, "rows_per_s": 10.0, "seconds_left": 2.0}
    assert line == {"level": "info", "event": "progress", **about}


def test_progress_sooner_than_that_is_no_line(ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]) -> None:
    doing(steps=STEPS)
    ragjob("run")
    assert [event["event"] for event in json_lines(capsys)] == ["started", "server died"]


def test_the_second_flows_stage_of_a_name_begins_anew(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "time", Clock([100, 110, 200, 202]))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 2)
    doing(
        steps=[
            Progress("embed", 10, 0.5),
            Progress("embed", 20, 1),
            Progress("embed", 4, 0.1),
            Progress("embed", 8, 0.2),
        ]
    )
    ragjob("run")
    told = [event for event in json_lines(capsys) if event["event"] == "progress"]
    assert [(event["rows"], event["rows_per_s"], event["seconds_left"]) for event in told] == [(20, 2, 0), (8, 4, 8)]


class Clock:
    """Tells these seconds, one after another."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        return self._seconds.pop(0)
