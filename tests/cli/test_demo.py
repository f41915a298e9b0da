"""What `ragjob demo` shows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.cli.sample import EXPECTED, PROMPTS
from ragjob.commands.report import Report
from tests.cli.conftest import Doing, Ragjob, lines


def test_the_demo_shows_answers_with_sources_and_counts_the_passages_found(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked, expected = ([json.loads(line) for line in file.read_text().splitlines()] for file in (PROMPTS, EXPECTED))
    retrieved = [{"retrieved_texts": [f"Before. {line['passage']} After."]} for line in expected]
    rows = [
        {"prompt_id": line["id"], "prompt": line["prompt"], "answer": "So."} | texts
        for line, texts in zip(asked, retrieved, strict=True)
    ]
    sources = {"retrieved_uris": ["corpus/origins.md"], "retrieved_scores": [0.756]}
    pq.write_table(pa.Table.from_pylist([row | sources for row in rows]), tmp_path / "answers.parquet")
    doing(Report("run", "v1", 34, 0, answers=str(tmp_path / "answers.parquet")))
    assert ragjob("demo") == (0, "")
    printed = lines(capsys)
    assert printed.count("  [1] origins.md (0.76)") == 4
    assert printed[-1] == "The expected passage is among the top 3 for 30 of 30 questions."
