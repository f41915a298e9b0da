"""The version stands in pyproject.toml; whatever else bears it follows."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from docs import make_version

PAGES = list(make_version.pages())


@pytest.mark.parametrize(("file", "text"), PAGES, ids=[str(file.relative_to(make_version.ROOT)) for file, _ in PAGES])
def test_a_file_bears_the_projects_version(file: Path, text: str) -> None:
    assert file.read_text("utf-8") == text, "run `make docs`"


@pytest.mark.parametrize(
    "file", ["helm/ragjob/Chart.yaml", "helm/ragjob/values.yaml", "docs/kind.md", "k8s/kind/ragjob.yaml", ".ci/run"]
)
def test_the_version_is_found_where_it_stands(file: str) -> None:
    assert make_version.ROOT / file in [page for page, _ in PAGES]


def test_another_version_takes_its_place_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_version, "version", lambda: "7.8.9")
    old = make_version.ROOT.joinpath("pyproject.toml").read_text("utf-8").split('\nversion = "')[1].split('"')[0]
    assert [file.name for file, text in make_version.pages() if f":{old}-" in text or f"-{old}\n" in text] == []


def test_the_program_tells_its_version() -> None:
    shown = subprocess.run([sys.executable, "-m", "ragjob", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"ragjob {version('ragjob')}\n"
