"""No file of the user's stands in for a module of ours or of our libraries: a whole job is in test_terminal.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    (tmp_path / "mine").mkdir()
    set_traps(tmp_path / "mine", marker)
    return tmp_path / "mine"


def set_traps(folder: Path, marker: Path) -> None:
    """Make it a user's folder: traps named as modules of ours and our libraries, inputs, and relative uris of them."""
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(TRAP.format(marker=str(marker)))
    (folder / "corpus").symlink_to(CORPUS)
    shutil.copy(PROMPTS, folder / "prompts.jsonl")
    uris = {"corpus": "corpus", "prompts": "prompts.jsonl", "index": "index", "output": "out"}
    settings: dict[str, object] = {section: {"uri": uri} for section, uri in uris.items()}
    settings |= {"chroma": {"path": "chroma"}, "embed": {"dtype": "float32"}, "commit_rows": 4}
    (folder / "job.yaml").write_text(yaml.safe_dump(settings))


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
