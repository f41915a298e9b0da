"""CONTRIBUTING's recipes work as they stand: one module and one registry line, and everything else follows."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ragjob

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
# What follows from the settings, and what a plan says of two runs that differ in the engine's own setting.
LOOK = """
import json, sys
from docs.make_settings import settings_table
from helm.render import schema
from ragjob.commands.run import Run
from ragjob.config import JobSettings, load_settings
from ragjob.documents.readers import document_reader
from ragjob.engines.base import Request
from ragjob.retrieval import MODES

corpus, prompts, folder, engine = sys.argv[1:]
uris = {"corpus": corpus, "prompts": prompts, "index": f"{folder}/index", "output": f"{folder}/answers"}
given = [f"{section}.uri={uri}" for section, uri in uris.items()] + ["cluster.cpus=2", "cluster.nodes=1"]
given += [f"generate.engine={engine}", "cluster.gpus=0"]
once, thrice = (Run.of(load_settings(None, [*given, f"generate.shout_marks={marks}"])) for marks in (1, 3))
request = Request("", "asked", "asked", [])
first = MODES["first"](once.task.settings.retrieve).make(None)
print(json.dumps({
    "plan": {check.name: check.line for check in once.plan().checks},
    "runs": [run.task.ledger.run_id for run in (once, thrice)],
    "versions": [run.index.ledger.version for run in (once, thrice)],
    "answer": thrice.task.engine.make("float32", 1).generate([request])[0].text,
    "table": settings_table(),
    "schema": JobSettings.model_json_schema()["$defs"]["Generate"]["properties"],
    "chart": json.loads(schema())["$defs"]["Generate"]["properties"],
    "text": document_reader("a.shout").read(b"THE DEPOT").text,
    "modes": JobSettings.model_json_schema()["$defs"]["Retrieve"]["properties"]["mode"]["enum"],
    "hits": [hit.passage.text for hit in first.search(["?"], None, [None])[0]],
}))
"""


def recipe(title: str) -> tuple[str, str]:
    """The module and the registry line that a section of the guide gives."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", GUIDE, re.M | re.S)
    (module,) = re.findall(r"^   ```python\n(.*?)^   ```", section, re.M | re.S)
    (line,) = re.findall(r"`([^`\n]+:\w+\",)`", section)
    return re.sub(r"^   ", "", module, flags=re.M), line


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is seen of a copy of the package to which the guide's engine and format were added."""
    folder = tmp_path_factory.mktemp("recipe")
    package = folder / "ragjob"
    shutil.copytree(Path(ragjob.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    add(package / "engines", "shout.py", "Add an engine", r"_REGISTERED = \[(?:\n    .*)*\n")
    add(package / "retrieval", "first.py", "Add a mode of retrieval", r"_REGISTERED = \[(?:\n    .*)*\n")
    add(package / "documents" / "readers", "shouted.py", "Add a file format", r"FILES = \{(?:\n    .*)*\n")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "depot.shout").write_text("THE DEPOT AT HARROW LANE HOLDS FORTY CARS.")
    (folder / "prompts.jsonl").write_text('{"prompt": "Where is the depot?"}')
    inputs = [str(folder / "corpus"), str(folder / "prompts.jsonl"), str(folder), "shout"]
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, *inputs], capture_output=True, text=True, check=True, env=environment
    )
    observations: dict[str, Any] = json.loads(ended.stdout)
    return observations


def add(folder: Path, name: str, title: str, place: str) -> None:
    module, line = recipe(title)
    (folder / name).write_text(module)
    registry = folder / "__init__.py"
    text, count = re.subn(place, lambda head: f"{head[0]}    {line}\n", registry.read_text("utf-8"))
    assert count == 1
    registry.write_text(text)


def test_a_plan_knows_a_new_engine_and_a_new_format(seen: dict[str, Any]) -> None:
    assert seen["plan"]["engine"] == "shout"
    assert seen["plan"]["corpus"] == "1 documents in 1 files, 42 bytes"


def test_a_setting_of_a_new_engine_decides_its_runs_and_no_index(seen: dict[str, Any]) -> None:
    assert seen["runs"][0] != seen["runs"][1]
    assert seen["versions"][0] == seen["versions"][1]


def test_a_new_engine_answers_and_a_new_format_is_read(seen: dict[str, Any]) -> None:
    assert (seen["answer"], seen["text"]) == ("ASKED!!!", "the depot")


def test_a_new_mode_is_a_choice_and_finds_passages(seen: dict[str, Any]) -> None:
    assert (seen["modes"], seen["hits"]) == (["hybrid", "dense", "lexical", "first"], ["The depot holds forty cars."])


def test_the_settings_table_and_both_schemas_have_a_new_engine(seen: dict[str, Any]) -> None:
    assert "| `generate.shout_marks` | `1` | exclamation marks, for shout |" in seen["table"]
    assert "shout: the question, loudly" in seen["table"]
    for schema in (seen["schema"], seen["chart"]):
        assert "shout" in schema["engine"]["enum"]
        assert (schema["shout_marks"]["decides"], schema["shout_marks"]["minimum"]) == ("run", 0)


def test_the_settings_table_has_a_new_format(seen: dict[str, Any]) -> None:
    (row,) = [line for line in seen["table"].splitlines() if line.startswith("| `corpus.uri`")]
    assert ".shout" in row


@pytest.mark.parametrize(
    "title",
    [
        "Add a setting",
        "Add an engine",
        "Add a mode of retrieval",
        "Add a file format",
        "Add a stage",
        "Add a check to the plan",
        "Add a dependency",
        "Add a chart value",
    ],
)
def test_the_guide_has_a_recipe_for_each_thing_to_add(title: str) -> None:
    assert f"\n## {title}\n1. " in GUIDE
