"""No file of the user's stands in for a module of ours or of our libraries, here or in Ray's workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ragjob.cli.sample import CORPUS, PROMPTS

SCRIPT = Path(sys.executable).with_name("ragjob")
PROGRAMS = {"ragjob": [str(SCRIPT)], "python -m ragjob": [sys.executable, "-m", "ragjob"]}
LIBRARIES = ["numpy", "pyarrow", "ray", "rich", "tokenizers", "torch", "typing_extensions"]
HOSTILE = [*LIBRARIES, "config", "errors", "job", "schema"]
# Tells who imported it, and fails them.
TRAP = """
import os, sys
with open({marker!r}, "a") as file:
    print(__name__, os.getpid(), sys.argv, file=file)
raise ImportError("taken from the current folder")
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "imported"


@pytest.fixture
def folder(tmp_path: Path, marker: Path) -> Path:
    """A user's folder: traps named as modules of ours and our libraries, a corpus, and settings with relative uris."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(TRAP.format(marker=str(marker)))
    (folder / "corpus").symlink_to(CORPUS)
    (folder / "prompts.jsonl").write_text("\n".join(PROMPTS.read_text("utf-8").splitlines()[:4]), "utf-8")
    uris = {"corpus": "corpus", "prompts": "prompts.jsonl", "index": "index", "output": "out"}
    settings: dict[str, object] = {section: {"uri": uri} for section, uri in uris.items()}
    settings |= {"chroma": {"path": "chroma"}, "embed": {"dtype": "float32"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(settings))
    return folder


def run(folder: Path, program: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `program` in `folder`."""
    command = [*PROGRAMS[program], *arguments]
    environment = os.environ | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def assert_well(ended: "subprocess.CompletedProcess[str]", marker: Path) -> None:
    imported = marker.read_text() if marker.exists() else ""
    assert (ended.returncode, ended.stderr, imported) == (0, "", ""), ended.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--command", "run"]], ids=" ".join)
def test_files_in_the_current_folder_stand_in_for_no_module(
    folder: Path, marker: Path, program: str, arguments: list[str]
) -> None:
    assert_well(run(folder, program, *arguments), marker)


def test_a_module_job_on_the_path_is_nothing_to_us(folder: Path, marker: Path, tmp_path: Path) -> None:
    (folder / "job.py").rename(tmp_path / "job.py")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    assert_well(run(folder, "python -m ragjob", "plan", PYTHONPATH=path), marker)


def test_a_path_that_python_left_alone_is_left_alone(folder: Path, marker: Path) -> None:
    assert_well(run(folder, "python -m ragjob", "--help", PYTHONSAFEPATH="1"), marker)


@pytest.mark.ray
def test_a_job_takes_inputs_from_the_users_folder_but_no_module_and_leaves_nothing_of_its_own(
    folder: Path, marker: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert_well(run(folder, "python -m ragjob", "run", TMPDIR=str(temporary), RAY_TMPDIR="/tmp"), marker)
    assert list(temporary.glob("ragjob-*")) == []
    (answers,) = (folder / "out").glob("*/answers.parquet")
    assert pq.read_table(answers)["error"].null_count == 4
    manifests = [json.loads(file.read_text()) for file in (folder / "index").rglob("manifest.json")]
    assert [manifest["failed"] for manifest in manifests] == [0]
    assert (folder / "chroma" / "chroma.sqlite3").is_file()
