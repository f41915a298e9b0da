"""The docs say what the program does: its help, its settings, its commands."""

import shlex
import subprocess

import pytest
import typer.main

from docs import make_api, make_figures, make_settings
from ragjob.cli.commands import app
from ragjob.config import load_settings
from tests.documented import BIN, COMMANDS, ROOT

APP = typer.main.get_command(app)
WITH_SETTINGS = [command for command in sorted(COMMANDS) if command.startswith("ragjob ") and " --set " in command]


def test_the_settings_page_has_the_help_and_the_settings_as_they_are() -> None:
    assert make_settings.PAGE.read_text("utf-8") == make_settings.page(), "run `make docs`"


def test_the_api_page_is_made_of_the_docstrings_as_they_are() -> None:
    assert make_api.PAGE.read_text("utf-8") == make_api.page(), "run `make docs`"


def test_the_tables_of_figures_are_made_of_the_results_as_they_are() -> None:
    assert make_figures.PAGE.read_text("utf-8") == make_figures.page(), "run `make docs`"
    assert list(make_figures.RESULTS.glob("*.json"))


def test_the_page_about_kubernetes_has_an_example_of_the_chart_as_it_is() -> None:
    example = (ROOT / "helm/ragjob/examples/gpu-shared.yaml").read_text("utf-8")
    assert f"```yaml\n{example}```\n" in (ROOT / "docs/kubernetes.md").read_text("utf-8")


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


@pytest.mark.parametrize("line", WITH_SETTINGS)
def test_every_ragjob_command_of_the_docs_has_arguments_and_settings_that_exist(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = APP.commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, arguments).params
    assert load_settings(None, given.get("assign") or [])


@pytest.mark.parametrize("command", APP.commands)  # type: ignore[attr-defined]
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = subprocess.run([BIN / "ragjob", command, "--help"], capture_output=True, text=True, check=True)
    assert f"Example: ragjob {command}" in shown.stdout
