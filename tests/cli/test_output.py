"""Nothing that comes from outside reaches a terminal as more than text."""

import logging
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ragjob.cli import output
from ragjob.cli.report import show_leftovers
from ragjob.commands.registry import COMMANDS
from ragjob.commands.report import Leftover, Report
from ragjob.errors import DataError, printable
from ragjob.kubernetes import submit
from ragjob.planning.checks import Check
from tests.cli.conftest import Command, Doing, Ragjob

HOSTILE = "a\x1b[2J\x9b1m\u202etxt\u2066\rb\udc80\nragjob: done"
SHOWN = r"a\x1b[2J\x9b1m\u202etxt\u2066\rb\udc80\nragjob: done"
OF_DIRECTION = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(text=st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_a_text_is_shown_on_one_line_without_control_characters_and_changes_of_direction(text: str) -> None:
    letters = printable(text)
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(letter) for letter in letters}
    assert not OF_DIRECTION & {unicodedata.bidirectional(letter) for letter in letters}
    assert letters.encode().decode() == letters


@pytest.mark.parametrize("text", ["Grüße.md", "книга.txt", "٣ كتاب", "می‌خواهم", "👩‍👩‍👧.txt", "a\\b [bold]"])
def test_a_text_in_any_language_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_an_error_is_shown_without_them(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=DataError("corpus.uri: a\x1b[2J\u202etxt\udc80"))
    assert ragjob("run")[1] == "ragjob: corpus.uri: a\\x1b[2J\\u202etxt\\udc80\n"


def test_a_defects_traceback_is_shown_without_them(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=ZeroDivisionError("a\x1b[2J\u202e"))
    assert r"ZeroDivisionError: a\x1b[2J\u202e" in ragjob("run")[1].splitlines()


def test_ids_errors_and_addresses_in_a_summary_are_shown_without_them(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    doing(Report("run", "v1", 2, 1, answers=HOSTILE, failures=[(HOSTILE, HOSTILE)]))
    ragjob("run")
    printed = capsys.readouterr().out.splitlines()
    assert f"  {SHOWN}: {SHOWN}" in printed
    assert f"answers: {SHOWN}" in printed


def test_a_plan_and_leftovers_are_shown_without_them(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "run", Command(checks=[Check("corpus", HOSTILE)]))
    ragjob("plan")
    show_leftovers([Leftover("upload", HOSTILE, HOSTILE, None, lambda: True)], removed=False)
    planned, leftover, _ = capsys.readouterr().out.splitlines()
    assert planned == f"✓ corpus   {SHOWN}"
    assert leftover.endswith(f"  {SHOWN}: {SHOWN}")


@pytest.mark.parametrize("terminal", [True, False])
def test_events_are_shown_without_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(output, "out", Console(force_terminal=terminal))
    output.events.emit(logging.makeLogRecord({"msg": HOSTILE, "row": HOSTILE.replace("\n", "")}))
    (line,) = capsys.readouterr().out.splitlines()
    assert printable(line) == line


def test_a_pods_log_is_shown_without_them(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = SimpleNamespace(name="job", namespace="here", stop="kubectl", follow=lambda tell: tell(HOSTILE))
    monkeypatch.setattr(submit, "submit", lambda documents, namespace: job)
    (tmp_path / "job.yaml").write_text("kind: RayJob")
    assert ragjob("submit", tmp_path / "job.yaml") == (0, "")
    assert capsys.readouterr().out.splitlines()[-1] == SHOWN
