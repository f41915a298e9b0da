"""The README says what the program does: its help, its settings, its commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import make_api, make_readme

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_readme_has_the_help_and_the_settings_as_they_are() -> None:
    assert make_readme.PAGE.read_text("utf-8") == make_readme.page(), "run `make docs`"


def test_the_api_page_is_made_of_the_docstrings_as_they_are() -> None:
    assert make_api.PAGE.read_text("utf-8") == make_api.page(), "run `make docs`"


@pytest.mark.parametrize(
    "command", ["plan", "index", "load", "answer", "run", "evaluate", "clean", "demo", "submit", "schema", "init"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = subprocess.run([BIN / "ragjob", command, "--help"], capture_output=True, text=True, check=True)
    assert f"Example: ragjob {command}" in shown.stdout
