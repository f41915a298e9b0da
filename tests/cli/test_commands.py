"""What each command takes, and what it does with it."""

import json
from pathlib import Path
from typing import get_args

import pytest

from ragjob.cli.commands import CommandName, app
from ragjob.cli.starter import STARTER
from ragjob.commands.registry import COMMANDS
from ragjob.commands.report import Report
from ragjob.config import JobSettings
from ragjob.runtime.progress import Observe
from tests.cli.conftest import DONE, Command, Ragjob


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[JobSettings]:
    """The settings that commands were given."""
    seen: list[JobSettings] = []

    def execute(settings: JobSettings, _: Observe) -> Report:
        seen.append(settings)
        return DONE

    for name in COMMANDS:
        monkeypatch.setitem(COMMANDS, name, Command(execute))
    return seen


def test_each_command_that_does_work_can_be_planned_and_run() -> None:
    assert list(get_args(CommandName)) == list(COMMANDS)
    assert COMMANDS.keys() <= {command.callback.__name__ for command in app.registered_commands if command.callback}


def test_without_a_command_the_help_is_shown(ragjob: Ragjob, capsys: pytest.CaptureFixture[str]) -> None:
    assert ragjob() == (0, "")
    assert "every prompt exactly once" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_assignments_win_over_the_file(ragjob: Ragjob, given: list[JobSettings], command: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("chunk: {size: 50, overlap: 5}")
    assert ragjob(command, "-c", "own.yaml", "--set", "chunk.size=60", "--set", "retrieve.top_k=4") == (0, "")
    assert (given[0].chunk.size, given[0].chunk.overlap, given[0].retrieve.top_k) == (60, 5, 4)


def test_job_yaml_in_this_folder_is_the_file_if_there_is_one(
    ragjob: Ragjob, given: list[JobSettings], tmp_path: Path
) -> None:
    ragjob("run")
    (tmp_path / "job.yaml").write_text("chunk: {size: 50}")
    ragjob("run")
    assert [settings.chunk.size for settings in given] == [200, 50]


def test_the_schema_is_printed_as_json(ragjob: Ragjob, capsys: pytest.CaptureFixture[str]) -> None:
    assert ragjob("schema") == (0, "")
    assert json.loads(capsys.readouterr().out) == JobSettings.model_json_schema()


def test_init_writes_a_file_to_start_from_and_never_over_another(ragjob: Ragjob, tmp_path: Path) -> None:
    assert ragjob("init") == (0, "")
    assert (tmp_path / "job.yaml").read_text() == STARTER
    (tmp_path / "job.yaml").write_text("mine")
    assert ragjob("init") == (2, "ragjob: job.yaml: File exists; name another file\n")
    assert (tmp_path / "job.yaml").read_text() == "mine"
