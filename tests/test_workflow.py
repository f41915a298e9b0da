"""The workflow and the hooks name what the project has."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
RUNS = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("run", RUNS)
def test_a_job_runs_a_target_of_the_makefile(run: str) -> None:
    assert re.search(rf"^{run.removeprefix('make ')}:.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)


def test_the_tests_run_on_the_oldest_and_the_newest_python() -> None:
    oldest, newest = JOBS["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={oldest}"
    assert f"Python {oldest} to {newest}" in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize("hook", HOOKS, ids=[hook["id"] for hook in HOOKS])
def test_a_hook_runs_what_lint_runs(hook: dict[str, Any]) -> None:
    assert hook["entry"].split()[0].replace(".venv/bin", "$(BIN)") in (ROOT / "Makefile").read_text("utf-8")
