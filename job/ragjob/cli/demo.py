"""The demo: its settings, and what it shows of the answers."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ragjob.cli.output import out
from ragjob.cli.sample import CORPUS, EXPECTED, PROMPTS
from ragjob.config import JobSettings

SHOWN_ANSWERS = 4


def demo_settings(folder: Path) -> JobSettings:
    """A run on the sample that keeps everything in `folder`."""
    return JobSettings.model_validate(
        {
            "corpus": {"uri": str(CORPUS)},
            "prompts": {"uri": str(PROMPTS), "id_column": "id"},
            "index": {"uri": str(folder / "index")},
            "output": {"uri": str(folder / "answers")},
            "chroma": {"path": str(folder / "chroma")},
        }
    )


def show_answers(uri: str) -> None:
    """Print a few answers with their sources, and how many of the expected passages were retrieved."""
    rows = pq.read_table(uri).to_pylist()
    for row in rows[:SHOWN_ANSWERS]:
        out.print(f"\n[bold]{row['prompt']}[/bold]\n  {row['answer']}")
        sources = zip(row["retrieved_uris"], row["retrieved_scores"], strict=True)
        for number, (source, score) in enumerate(sources, 1):
            out.print(f"  [{number}] {Path(source).name} ({score:.2f})", style="dim", markup=False)
    passages = _expected_passages()
    retrieved = _count_retrieved(rows, passages)
    out.print(f"\nThe expected passage is among the top 3 for {retrieved} of {len(passages)} questions.")


def _expected_passages() -> dict[str, str]:
    """The passage that answers a question, by the question's id; some have none."""
    expected = [json.loads(line) for line in EXPECTED.read_text(encoding="utf-8").splitlines()]
    return {line["id"]: line["passage"] for line in expected if line["passage"]}


def _count_retrieved(rows: list[dict[str, Any]], passages: dict[str, str]) -> int:
    texts = {row["prompt_id"]: "\n".join(row["retrieved_texts"]) for row in rows}
    return sum(passage in texts[name] for name, passage in passages.items())
