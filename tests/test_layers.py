"""The one direction of imports, and what may not be imported to answer `ragjob --help`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import job

ROOT = Path(job.__file__).parent
# From the top: a module imports those of its own level and of lower ones. A package stands for its modules.
LEVELS = [
    {"__main__", "cli"},
    {"__init__", "pipeline", "clean", "submit"},
    {"plan"},
    {"execution"},
    {"watch"},
    {"stages"},
    {"ledger", "fit", "tuning"},
    {"engines"},
    {"inputs"},
    {"formats"},
    {"models", "store", "chroma_server", "chroma_session", "storage", "cluster"},
    {"orphans"},
    {"config", "schema", "errors", "sample", "starter", "progress", "troubles"},
]
LEVEL_OF = {name: number for number, level in enumerate(LEVELS) for name in level}
ONLY_IMPORTERS = {
    "torch": {"models"},
    "transformers": {"models"},
    "sentence_transformers": {"models"},
    "vllm": {"models"},
    "tokenizers": {"models", "stages"},
    "chromadb": {"store"},
    "ray": {"cluster", "execution", "watch"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow.fs": {"storage"},
    "huggingface_hub": {"models"},
    "openai": {"models"},
    "kubernetes": {"submit"},
    "typer": {"cli"},
    "rich": {"cli"},
}
FILES = sorted(ROOT.rglob("*.py"))


def unit(file: Path) -> str:
    """The module right below `job`, or the package, that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Full names of all that a file imports, in functions too: `from a import b` is `a` and `a.b`."""
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return (
        plain | {str(node.module) for node in froms} | {f"{node.module}.{a.name}" for node in froms for a in node.names}
    )


def units_of(file: Path) -> set[str]:
    """The units of `job` that a file imports."""
    inside = {name.split(".")[1] for name in imports(file) if name.startswith("job.")}
    return inside & LEVEL_OF.keys()


def test_every_module_has_its_level() -> None:
    assert {unit(file) for file in FILES} == LEVEL_OF.keys()


def test_no_import_is_relative() -> None:
    nodes = [node for file in FILES for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    assert [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_none_of_a_level_above_its_own(file: Path) -> None:
    assert {name for name in units_of(file) if LEVEL_OF[name] < LEVEL_OF[unit(file)]} == set()


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    importers = {
        unit(file) for file in FILES for name in imports(file) if name == library or name.startswith(f"{library}.")
    }
    assert importers <= ONLY_IMPORTERS[library]


def test_import_of_the_commands_loads_no_heavy_library() -> None:
    code = "import sys, job, job.config, job.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "transformers", "ray", "chromadb", "pyarrow", "job.pipeline"} & set(loaded) == set()


def seconds_of_help() -> float:
    """Seconds of a processor: waiting for one isn't counted."""
    before = os.times()
    subprocess.run([Path(sys.executable).with_name("ragjob"), "--help"], capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_takes_less_than_half_a_second() -> None:
    assert min(seconds_of_help() for _ in range(5)) < 0.5
