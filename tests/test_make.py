"""What `make` does before it installs anything."""

import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.documented import ROOT, run

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout without a virtual environment, as far as `make` looks at it, and an empty folder `bin`."""
    for name in ("Makefile", "pyproject.toml", "lock.txt", "lock-torch-cpu.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(shlex.join(["make", *arguments]), folder, PATH=f"{folder}/bin:/usr/bin:/bin")


@pytest.mark.parametrize("why", ["raise SystemExit(1)", "import no_such_module"])
def test_a_python_that_is_too_old_or_lacks_venv_ends_in_one_line(why: str, fresh: Path) -> None:
    program(fresh, "python3.9", f"exec python3 -c '{why}'")
    ended = make(fresh, "demo", "PYTHON=python3.9")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "needs Python 3.11 to 3.14 with its venv module" in line
    assert ended.stdout == ""


def test_without_a_driver_of_nvidia_torch_is_the_build_for_processors(fresh: Path) -> None:
    planned = make(fresh, "-n", "demo", "DRIVER=").stdout
    assert "torch for processors" in planned
    assert "--constraint lock-torch-cpu.txt" in planned


def test_with_a_driver_of_nvidia_torch_is_the_build_for_gpus(fresh: Path) -> None:
    program(fresh, "nvidia-smi", "exit 0")
    planned = make(fresh, "-n", "demo").stdout
    assert "torch for NVIDIA GPUs" in planned
    assert "lock-torch-cpu.txt" not in planned


@pytest.mark.parametrize(("torch", "named"), [("cpu", "torch for processors"), ("cuda", "torch for NVIDIA GPUs")])
def test_the_build_of_torch_can_be_chosen(torch: str, named: str, fresh: Path) -> None:
    assert named in make(fresh, "-n", "demo", f"TORCH={torch}").stdout


def test_the_python_can_be_chosen(fresh: Path) -> None:
    program(fresh, "python3.12", 'exec python3 "$@"')
    assert "python3.12 -m venv .venv\n" in make(fresh, "-n", "test", "PYTHON=python3.12").stdout


def test_vllms_environment_has_the_build_for_processors_even_there(fresh: Path) -> None:
    program(fresh, "nvidia-smi", "exit 0")
    assert "--constraint lock-torch-cpu.txt" in make(fresh, "-n", "test-vllm").stdout


def test_the_image_bears_the_projects_version(fresh: Path) -> None:
    assert f"--tag localhost/ragjob:{VERSION}-gpu" in make(fresh, "-n", "image", "TARGET=gpu").stdout
