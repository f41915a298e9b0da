"""A corpus of all formats: what its passages are found by, and what the answers say of where they stand."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ragjob.commands import api
from ragjob.config import JobSettings
from ragjob.documents.readers import DOCUMENTS
from tests.commands.conftest import compute_by, here
from tests.mixed import FACTS, Fact, write_corpus

Passages = list[tuple[str, str, str | None, int | None]]

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def retrieved(corpus: Path, tmp_path_factory: pytest.TempPathFactory, shared_chroma: str) -> dict[str, Passages]:
    """Of each question its passages: text, document id, title and page."""
    folder = tmp_path_factory.mktemp("answered")
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": fact.question}) for fact in FACTS))
    settings = JobSettings(
        corpus={"uri": str(corpus), "title_column": "title"},
        prompts={"uri": str(folder / "prompts.jsonl")},
        index={"uri": str(folder / "index")},
        output={"uri": str(folder / "out")},
        chroma={"url": shared_chroma},
        cluster={"cpus": 2, "gpus": 0, "nodes": 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        compute_by(patch, here)
        report = api.run(settings)
    rows = pq.read_table(report.answers).to_pylist()
    columns = [f"retrieved_{name}" for name in ("texts", "document_ids", "titles", "pages")]
    return {row["prompt"]: list(zip(*(row[column] for column in columns), strict=True)) for row in rows}


def test_the_corpus_has_a_file_for_each_reader(corpus: Path) -> None:
    assert {DOCUMENTS[file.suffix] for file in corpus.iterdir()} == set(DOCUMENTS.values())
    assert len(FACTS) == 30


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.question)
def test_a_fact_is_among_the_first_three_with_its_document_title_and_page(
    fact: Fact, retrieved: dict[str, Passages]
) -> None:
    passages = [passage for passage in retrieved[fact.question][:3] if fact.words in passage[0]]
    assert (fact.document, fact.title, fact.page) in [passage[1:] for passage in passages], retrieved[fact.question]
