"""The programs in examples/ do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ragjob.cli.sample import CORPUS
from tests.fakes import tiny_qwen2
from tests.integration.conftest import Job

pytestmark = [pytest.mark.ray, pytest.mark.services]

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, folder: Path, shared_ray: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    environment = os.environ | {"RAY_ADDRESS": shared_ray}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.soak
def test_a_folder_is_asked_and_answers_with_its_sources(tmp_path: Path, shared_ray: str) -> None:
    asked = example("ask_a_folder.py", tmp_path, shared_ray, CORPUS, "Who founded the Harbour Line?")
    assert asked.returncode == 0, asked.stderr
    assert "Who founded the Harbour Line?\n  " in asked.stdout
    assert "  [3] " in asked.stdout
    assert "starting Ray" in asked.stderr or "connecting to Ray" in asked.stderr


def test_a_folder_that_is_missing_ends_in_its_exit_code(tmp_path: Path, shared_ray: str) -> None:
    assert example("ask_a_folder.py", tmp_path, shared_ray, "nowhere", "Who?").returncode == 4


@pytest.mark.soak
def test_a_file_that_fails_leaves_the_others_to_be_answered(tmp_path: Path, index: Path, shared_ray: str) -> None:
    (tmp_path / "bad.csv").write_text('prompt\n"never closed\n')
    (tmp_path / "good.jsonl").write_text('{"prompt": "Who founded the Harbour Line?"}\n')
    settings = {"index": {"uri": str(index)}, "output": {"uri": "out"}, "embed": {"dtype": "float32"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings))
    ended = example("answer_many_files.py", tmp_path, shared_ray, "job.yaml", "bad.csv", "good.jsonl")
    assert ended.returncode == 4, ended.stderr
    assert "bad.csv: " in ended.stdout
    assert "good.jsonl is answered: 1 prompts, 0 errors" in ended.stdout


@pytest.mark.soak
def test_answers_are_judged_by_a_language_model(tmp_path: Path, done: Job, index: Path, shared_ray: str) -> None:
    (answers,) = (done.folder / "out").glob("*/answers.parquet")
    settings = {"index": {"uri": str(index)}, "embed": {"dtype": "float32"}, "augment": {"max_context_tokens": 100}}
    settings["generate"] = {"engine": "transformers", "model": str(tiny_qwen2(tmp_path / "model"))}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings))
    ended = example("judge_answers.py", tmp_path, shared_ray, "job.yaml", answers)
    assert ended.returncode == 0, ended.stderr
    asked = pq.read_table(next((tmp_path / "judged").glob("*/answers.parquet")))
    assert asked["error"].null_count == asked.num_rows == 48
    assert asked["prompt"][0].as_py().startswith("Question: ")
    counts = re.match(r"(\d+) of 48 answers are supported, (\d+) are not, (\d+) are unclear\n", ended.stdout)
    assert counts
    assert sum(map(int, counts.groups())) == 48
    assert ended.stdout.count("  not supported: ") == int(counts[2])
