"""The commands of the docs on a finished run, and whole jobs that they start."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from ragjob.cli.sample import CORPUS
from tests.documented import COMMANDS, filled, run, run_by
from tests.engines.openai.fake_api import Asked, Reply, echo, refusal, serve
from tests.fakes import tiny_qwen2
from tests.forks import ragjob
from tests.integration.conftest import Job
from tests.services import Bucket

pytestmark = [pytest.mark.ray, pytest.mark.services]

HERE = "tests/integration/test_documented.py::"
# As the docs call them.
RUNS = sorted({run for command in COMMANDS for run in re.findall(r"answers/(\w+)", command)})
BEFORE = [command for command in COMMANDS if command.startswith(("export ", "head "))]  # what others build on
PLACES = {"index": {"uri": "index"}, "output": {"uri": "answers"}, "embed": {"dtype": "float32"}}
SMALL = PLACES | {
    "corpus": {"uri": "corpus", "metadata_columns": ["tenant", "year"]},
    "prompts": {"uri": "prompts.jsonl"},
    "augment": {"max_context_tokens": 100},
    "generate": {"max_new_tokens": 8},
}
LINES = [{"text": f"Line {n} runs from Harrow Lane to stop {n}.", "tenant": "acme", "year": 2024} for n in range(9)]
PROMPTS = [{"prompt": f"Where does line {n} end?", "customer": "acme"} for n in (2, 7)]


def jsonl(rows: list[dict[str, object]]) -> str:
    return "\n".join(map(json.dumps, rows))


@pytest.fixture(scope="module")
def finished(done: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `job.yaml`, an index, runs that are all alike, labels that they meet, and a part left behind."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(done.folder / "index", folder / "index")
    inputs = {section: {"uri": str(done.assignments[f"{section}.uri"])} for section in ("corpus", "prompts")}
    (folder / "job.yaml").write_text(yaml.safe_dump(PLACES | inputs | {"commit_rows": 4}))
    answered = [row for row in done.answers().to_pylist() if not row["error"]]
    labels = [
        {"prompt_id": row["prompt_id"], "document_ids": row["retrieved_document_ids"][:1], "answers": [row["answer"]]}
        for row in answered
    ]
    (folder / "labels.jsonl").write_text(jsonl(labels))
    lists = ["document_ids", "answers"]
    as_text = [row | {name: json.dumps(row[name]) for name in lists} for row in labels]
    for name in ("labels.csv", "questions.csv"):
        pd.DataFrame(as_text).to_csv(folder / name, index=False)
    (published,) = (done.folder / "out").glob("*/answers.parquet")
    ours = shutil.copytree(published.parent, folder / "answers" / published.parent.name)
    assert ragjob("evaluate", ours, "--labels", "labels.jsonl", folder=folder).code == 0
    copies = [shutil.copytree(ours, folder / "answers" / name) for name in RUNS]
    left = folder / "answers" / "_staging" / copies[0].name
    left.mkdir(parents=True)
    pq.write_table(done.answers().slice(0, 1), left / "part-1.parquet")
    return folder


def ended_well(command: str, folder: Path, chroma: str) -> str:
    """What a command prints, with values for its placeholders."""
    values = {
        "FILE": str(CORPUS / "origins.md"),
        "QUESTION": "Who founded the Harbour Line?",
        "http://localhost:8000": chroma,
    }
    ended = run(filled(command, values), folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_a_finished_run_serves_the_commands_of_the_docs"))
def test_a_finished_run_serves_the_commands_of_the_docs(
    command: str, says: str, finished: Path, shared_chroma: str
) -> None:
    assert says in ended_well(command, finished, shared_chroma)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("command", "says"), run_by(f"{HERE}test_a_finished_run_serves_the_longer_commands_of_the_docs")
)
def test_a_finished_run_serves_the_longer_commands_of_the_docs(
    command: str, says: str, finished: Path, shared_chroma: str
) -> None:
    assert says in ended_well(command, finished, shared_chroma)


def keyed(asked: Asked) -> Reply:
    """An answer for whoever has the key."""
    return echo(asked) if asked.headers["Authorization"] == "Bearer ..." else refusal(401, "no key")


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with serve() as api:
        api.reply = keyed
        yield api.url


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `job.yaml`, two prompts, and an index of nine lines."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "lines.jsonl").write_text(jsonl(LINES))
    (folder / "prompts.jsonl").write_text(jsonl(PROMPTS))
    pd.DataFrame(PROMPTS).assign(prompt_id=["p1", "p2"]).to_csv(folder / "questions.csv", index=False)
    (folder / "job.yaml").write_text(yaml.safe_dump(SMALL))
    assert run("ragjob index", folder).returncode == 0
    tiny_qwen2(folder / "qwen2")
    return folder


@pytest.mark.soak
@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_a_job_of_the_docs_answers"))
def test_a_job_of_the_docs_answers(
    command: str, says: str, small: Path, api: str, bucket: Bucket, tmp_path: Path
) -> None:
    folder = shutil.copytree(small, tmp_path / "folder")  # some commands have the same run_id
    bucket.fill("corpus", small / "corpus")
    bucket.write("prompts.jsonl", (small / "prompts.jsonl").read_bytes())
    values = {
        "s3://books": bucket.uri,
        "Qwen/Qwen2.5-0.5B-Instruct": "qwen2",
        "http://localhost:8000/v1": api,
        "http://localhost:11434/v1": api,
    }
    s3 = {f"RAGJOB__{key.upper().replace('.', '__')}": value for key, value in bucket.server.settings.items()}
    script = "\n".join([*BEFORE, filled(command, values)])
    ended = run(script, folder, **s3)  # on a Ray of its own, which knows the keys
    assert ended.returncode == 0, ended.stderr
    assert says in ended.stdout
