"""The README says what the program does: its help, its settings, its commands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from job.config import JobSettings
from job.sample import CORPUS, PROMPTS

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def settings_rows(model: type[BaseModel] = JobSettings, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_rows(field.annotation, f"{prefix}{name}.")
        else:
            default = "" if field.default is None else f"`{json.dumps(field.default)}`".replace("|", r"\|")
            yield f"| `{prefix}{name}` | {default} | {field.description} |"


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    table = "\n".join(["| key | default | meaning |", "|---|---|---|", *settings_rows()])
    assert f"<!-- settings -->\n\n{table}\n" in README


def test_the_help_is_the_programs() -> None:
    run = [BIN / "ragjob", "--help"]
    shown = subprocess.run(
        run, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "100", "TERM": "dumb"}
    )
    text = "\n".join(line.rstrip() for line in shown.stdout.strip().split("\n"))
    assert f"<!-- help -->\n```\n{text}\n```" in README


@pytest.mark.parametrize(
    "command", ["plan", "index", "load", "answer", "run", "clean", "demo", "submit", "schema", "init"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = subprocess.run([BIN / "ragjob", command, "--help"], capture_output=True, text=True, check=True)
    assert f"Example: ragjob {command}" in shown.stdout


@pytest.mark.ray
@pytest.mark.services
def test_the_commands_for_your_own_data_work_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "corpus").symlink_to(CORPUS)
    (tmp_path / "prompts.jsonl").symlink_to(PROMPTS)
    (own_data, _) = blocks("sh")
    path = f"{BIN}:{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", own_data], cwd=tmp_path, check=True, env=os.environ | {"PATH": path})
    assert pq.read_table(tmp_path / "answers").num_rows == 34
