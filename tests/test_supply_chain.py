"""What is installed is what was locked, in the image and in the virtual environments."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.models.fake_hub import NAME, serve

ROOT = Path(__file__).parents[1]
CONSTRAINTS, LOCK, TORCH_CPU = (
    (ROOT / name).read_text("utf-8") for name in ("constraints.txt", "lock.txt", "lock-torch-cpu.txt")
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tf_model.h5": b"other weights"}


def pins(text: str) -> dict[str, str]:
    """Version by normalised name."""
    requirements = re.findall(r"^([\w.-]+)==(\S+)", text, re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in requirements}


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    assert pins(LOCK) == pins(CONSTRAINTS), "run `make lock`"


def test_every_locked_package_has_hashes() -> None:
    entries = re.findall(r"^[\w.-]+==.*\n(?: +--hash.*\n)*", LOCK + TORCH_CPU, re.M)
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_both_builds_of_torch_are_of_one_version() -> None:
    assert pins(TORCH_CPU) == {"torch": f"{pins(LOCK)['torch']}+cpu"}


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = pins("\n".join(re.sub(r"[^\w.-].*", "==any", line) for line in lines))
    assert names.keys() <= pins(LOCK).keys(), "add what is missing to constraints.txt, then run `make lock`"


@pytest.mark.parametrize("file", ["Makefile", "docker/Dockerfile"])
def test_every_install_checks_hashes_or_installs_ragjob_alone(file: str) -> None:
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"pip install|uv build", line) and "peers" not in line]
    checked = ("--require-hashes", "--no-deps", "UV = ")
    assert installs
    assert [line for line in installs if not any(option in line for option in checked)] == []


def test_a_baked_model_is_that_of_its_commit_without_other_frameworks_weights(tmp_path: Path) -> None:
    with serve(FILES, COMMIT) as hub:
        baked = bake(tmp_path, f"{NAME}@{COMMIT}", hub.url)
    folder = tmp_path / NAME
    assert baked.returncode == 0, baked.stderr
    assert sorted(file.name for file in folder.rglob("*")) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("model", [NAME, f"{NAME}@main", f"{NAME}@{COMMIT[:12]}", f"../{NAME}@{COMMIT}"])
def test_a_model_is_baked_by_its_whole_commit_only(model: str, tmp_path: Path) -> None:
    refused = bake(tmp_path, model, "http://127.0.0.1:9")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"MODELS: {model}: write ORG/NAME@COMMIT")


def bake(folder: Path, model: str, hub: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_ENDPOINT": hub, "HF_HOME": str(folder / ".home")}
    command = [ROOT / "docker/bake-models", folder, model]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
