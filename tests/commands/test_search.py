"""`search` on an index that is loaded, and on one that isn't."""

import json

import pytest

from ragjob.cli.search import show_hits
from ragjob.commands.search import Search
from ragjob.config import JobSettings
from ragjob.errors import DataError
from tests.commands.conftest import DOCUMENTS

pytestmark = pytest.mark.services

QUESTION = "What does a ticket cost?"


def changed(settings: JobSettings, **sections: dict[str, object]) -> JobSettings:
    return JobSettings(**settings.model_dump() | sections)


def test_a_question_finds_passages_with_both_sides_scores(made: JobSettings) -> None:
    first, second = Search.of(made).execute(QUESTION)
    assert (first.passage.document_id, first.passage.text) == ("fares.md", DOCUMENTS["fares.md"])
    assert first.bm25 is not None
    assert (first.score, first.bm25 > 0, second.bm25) == (pytest.approx(1), True, 0)
    assert first.similarity > second.similarity


@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_a_server_of_the_jobs_own_is_loaded_if_the_mode_asks_one(made: JobSettings, mode: str) -> None:
    hits = Search.of(changed(made, chroma={}, retrieve={"mode": mode})).execute(QUESTION)
    assert hits[0].passage.document_id == "fares.md"


def test_an_index_that_the_server_hasnt_got_is_refused(made: JobSettings) -> None:
    index = made.index.model_dump() | {"collection": "another"}
    with pytest.raises(DataError, match="run `ragjob load`"):
        Search.of(changed(made, index=index)).execute(QUESTION)


def test_a_name_that_no_document_has_is_refused(made: JobSettings) -> None:
    with pytest.raises(DataError, match=r"^retrieve.where: no metadata 'autor' in index version"):
        Search.of(changed(made, retrieve={"where": {"autor": "Ada"}})).execute(QUESTION)


def test_hits_are_printed_for_people_and_for_programs(made: JobSettings, capsys: pytest.CaptureFixture[str]) -> None:
    hits = Search.of(made).execute(QUESTION)
    show_hits(hits, as_json=False)
    assert capsys.readouterr().out.startswith("1. score 1.000: similarity 0.")
    show_hits(hits, as_json=True)
    best = json.loads(capsys.readouterr().out)[0]
    assert (best["document_id"], best["title"], best["bm25"]) == ("fares.md", None, hits[0].bm25)
