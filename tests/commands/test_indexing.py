"""What happens around the flow of `index`: resuming, racing, committing. It runs in this process, without Ray."""

from pathlib import Path
from typing import Any

import pytest

from ragjob.commands import api
from ragjob.config import JobSettings
from ragjob.errors import DataError, DependencyError, Stopped, TooManyFailures
from ragjob.stages.cost import Cost
from tests.commands.conftest import Use, as_stated, here, interrupt, of_index, refusing, stage_then
from tests.conftest import files_below

pytestmark = pytest.mark.services

SENTENCES_KILLED = [
    "ragjob.ledger.sentences.SentenceLedger.join",
    "ragjob.ledger.sentences.put",
    "ragjob.ledger.sentences.SentenceLedger._delete",
]


def searched_files(folder: Path) -> list[str]:
    """What an index has beside its version."""
    names = [name.split("/")[-1] for name in files_below(folder / "index" / "segments")]
    return [name for name in names if name.startswith(("lexical-", "sentences-", "spans-"))]


def test_each_stage_of_index_needs_and_adds_the_columns_that_it_states(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(as_stated)
    assert api.index(of_index(corpus, tmp_path)).rows == 2


def test_an_index_made_again_computes_nothing(use: Use, corpus: Path, tmp_path: Path) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    first = api.index(settings)
    use(refusing)
    again = api.index(settings)
    assert (first.rows, first.already_done, again.rows, again.already_done) == (2, False, 2, True)


def test_an_index_whose_parts_are_removed_meanwhile_isnt_committed(use: Use, corpus: Path, tmp_path: Path) -> None:
    def losing(*work: Any) -> list[Cost]:
        here(*work)
        (tmp_path / "index").rename(tmp_path / "gone")
        return []

    use(losing)
    with pytest.raises(
        DependencyError, match=r"^index.uri: the parts of 2 documents were removed by another process; run the job"
    ):
        api.index(of_index(corpus, tmp_path))
    use(here)
    assert api.index(of_index(corpus, tmp_path)).rows == 2


def test_an_index_that_is_being_made_shows_it(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(stage_then(Stopped("stopped"), here))
    with pytest.raises(Stopped):
        api.index(of_index(corpus, tmp_path))
    (shown,) = (tmp_path / "index").glob("segments/*/_taken-up")
    before = shown.stat().st_mtime_ns
    with pytest.raises(Stopped):
        api.index(of_index(corpus, tmp_path))
    assert shown.stat().st_mtime_ns > before


def test_an_index_made_without_a_server_is_loaded_when_one_is_named(
    use: Use, corpus: Path, tmp_path: Path, chroma: str
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    api.index(settings)
    use(refusing)
    place = {"uri": settings.index.uri, "collection": "another"}
    report = api.index(JobSettings(**settings.model_dump() | {"index": place, "chroma": {"url": chroma}}))
    assert ([cost.stage for cost in report.costs], report.already_done) == (["load"], False)


def test_a_corpus_of_blank_texts_is_a_data_error(use: Use, tmp_path: Path) -> None:
    (tmp_path / "blank.csv").write_text('text\n" "\n"  "\n')
    use(here)
    with pytest.raises(
        DataError, match=r"^corpus.uri: .*blank.csv has no text to index; name files that contain text$"
    ):
        api.index(of_index(tmp_path / "blank.csv", tmp_path))


def test_too_many_documents_that_fail_leave_no_version(use: Use, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"text": "The depot holds forty cars."}\n{"text": null}\n')
    settings = of_index(tmp_path / "some.jsonl", tmp_path)
    use(here)
    with pytest.raises(
        TooManyFailures,
        match=r"^errors.max_rate: 50.0% of 2 documents failed, more than 10.0%; .* or raise the rate; "
        r"the errors are in \S+/index/segments/\w+/_failed-\*.parquet; the first is some.jsonl#1: text is null$",
    ):
        api.index(settings)
    assert not list(tmp_path.glob("index/versions/*/manifest.json"))


def test_an_index_that_another_attempt_has_committed_meanwhile_is_fine(use: Use, corpus: Path, tmp_path: Path) -> None:
    settings = of_index(corpus, tmp_path)

    def overtaken(*_: object) -> list[Cost]:
        use(here)
        api.index(settings)
        raise DataError("part-1.parquet: no such file")

    use(overtaken)
    assert api.index(settings).rows == 2


def test_an_index_that_fails_alone_fails(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(stage_then(DependencyError("Ray: gone"), here))
    with pytest.raises(DependencyError, match=r"^Ray: gone$"):
        api.index(of_index(corpus, tmp_path))


def test_a_kill_after_the_manifest_is_settled_by_the_next_attempt(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    with monkeypatch.context() as kill:
        kill.setattr("ragjob.ledger.index.IndexLedger.sweep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            api.index(settings)
    killed = {name.split("/")[-1] for name in files_below(tmp_path / "index")}
    api.index(settings)
    settled = {name.split("/")[-1] for name in files_below(tmp_path / "index")}
    assert {"_dtype", "_taken-up", "manifest.json"} < killed
    staged = {name for name in killed if name.startswith("sentences-")}
    joined = {name for name in settled if name.startswith(("lexical-", "sentences-", "spans-"))}
    assert (len(staged), len(joined)) == (1, 4)
    assert settled == killed - {"_dtype", "_taken-up", *staged} | {"current.json"} | joined


@pytest.mark.parametrize("place", SENTENCES_KILLED)
def test_a_kill_while_sentences_are_joined_is_followed_by_a_rerun_that_embeds_nothing(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    with monkeypatch.context() as kill:
        kill.setattr(place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            api.index(settings)
    use(refusing)
    api.index(settings)
    assert len(searched_files(tmp_path)) == 4
    assert api.index(settings).already_done


def test_sentences_that_are_wanted_later_are_embedded_then_and_no_chunk_is(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    api.index(of_index(corpus, tmp_path, retrieve={"sentences": False}))
    assert len(searched_files(tmp_path)) == 1
    use(stage_then(KeyboardInterrupt(), here))
    with pytest.raises(KeyboardInterrupt):
        api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 2  # what is staged
    use(refusing)
    api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 4


def test_sentences_that_fail_within_the_rate_leave_passages_that_are_found_as_a_whole(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    monkeypatch.setattr("ragjob.stages.sentences.quotable", lambda text: [][1])
    assert api.index(of_index(corpus, tmp_path, errors={"max_rate": 1.0})).errors == 0
    assert len(searched_files(tmp_path)) == 4


def test_sentences_that_fail_too_often_end_the_job_and_are_tried_again_by_the_next_attempt(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    with monkeypatch.context() as fail:
        fail.setattr("ragjob.stages.sentences.quotable", lambda text: [][1])
        with pytest.raises(TooManyFailures, match=r"^errors.max_rate: the sentences of 2 of 2 passages couldn't be"):
            api.index(of_index(corpus, tmp_path))
    monkeypatch.setattr("ragjob.commands.indexing.execute", refusing)
    api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 4
