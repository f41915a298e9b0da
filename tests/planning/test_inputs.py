"""Inputs and outputs: which are required, which lie apart, and which have changed since they were listed."""

from pathlib import Path

import pytest

from ragjob.commands.index import Index
from ragjob.commands.registry import COMMANDS
from ragjob.commands.run import Run
from ragjob.documents.units import plan_slices
from ragjob.errors import DataError, RagjobError, SettingsError
from ragjob.planning.identity import PendingIndex
from ragjob.stages.read import ReadDocuments
from tests.planning.jobs import Settings


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("index", "corpus.uri"),
        ("index", "index.uri"),
        ("load", "index.uri"),
        ("answer", "prompts.uri"),
        ("answer", "output.uri"),
        ("run", "corpus.uri"),
        ("run", "output.uri"),
    ],
)
def test_a_command_says_what_it_requires(settings: Settings, command: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"^{missing}: required by `{command}`"):
        COMMANDS[command].of(settings(**{missing: "null"}))


@pytest.mark.parametrize(
    ("key", "inside", "message"),
    [
        (
            "output.uri",
            "corpus/out",
            "output.uri: {0}/corpus/out lies inside corpus.uri, {0}/corpus, and would be read",
        ),
        ("index.uri", "corpus/index", "index.uri: {0}/corpus/index lies inside corpus.uri"),
        ("chroma.path", "corpus/chroma", "chroma.path: {0}/corpus/chroma lies inside corpus.uri"),
        ("index.uri", "corpus", "corpus.uri: {0}/corpus holds files of index.uri, {0}/corpus; name a folder or glob"),
        ("output.uri", "", "corpus.uri: {0}/corpus holds files of output.uri, {0}/; name a folder or glob"),
        ("prompts.uri", "corpus/*/asked.csv", None),
    ],
)
def test_what_a_job_writes_cant_lie_among_what_it_reads(
    settings: Settings, tmp_path: Path, key: str, inside: str, message: str | None
) -> None:
    with pytest.raises(RagjobError, match=f"^{message.format(tmp_path) if message else 'prompts.uri: '}"):
        Run.of(settings(**{key: f"{tmp_path}/{inside}"}))


@pytest.mark.parametrize(
    ("corpus", "prompts"),
    [
        ("corpus", "corpus/fares.csv"),
        ("corpus", "corpus"),
        ("corpus", "corpus/*.csv"),
        ("corpus", "link.csv"),
        ("corpus", "x/../corpus/fares.csv"),
        ("corpus/fares.csv", "corpus/fares.csv"),
        ("corpus/*.csv", "corpus/fares.csv"),
        ("corpus/**", "link/fares.csv"),
        ("link", "corpus/fares.csv"),
    ],
)
def test_prompts_among_the_documents_are_refused(settings: Settings, tmp_path: Path, corpus: str, prompts: str) -> None:
    (tmp_path / "link").symlink_to("corpus")
    (tmp_path / "link.csv").symlink_to("corpus/fares.csv")
    (tmp_path / "x").mkdir()
    uris = {"corpus__uri": f"{tmp_path}/{corpus}", "prompts__uri": f"{tmp_path}/{prompts}"}
    with pytest.raises(SettingsError, match=r"^prompts.uri: .*\.csv is also in corpus.uri, .*exclude it with corpus.e"):
        Index.of(settings(**uris, corpus__text_column="text", prompts__prompt_column="text"))


def test_prompts_that_are_left_out_of_the_corpus_may_lie_beside_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "prompts.csv").write_text("prompt\nWho?\n")
    apart = settings(prompts__uri=f"{tmp_path}/corpus/prompts.csv", corpus__exclude='["prompts.csv"]')
    assert Run.of(apart).plan().errors == []


def test_an_index_is_made_before_there_are_prompts(settings: Settings, tmp_path: Path) -> None:
    assert Index.of(settings(prompts__uri=f"{tmp_path}/corpus/none.csv")).plan().errors == []


@pytest.mark.parametrize("key", ["index.uri", "output.uri", "chroma.path"])
def test_a_link_into_the_corpus_is_no_place_to_write_to(settings: Settings, tmp_path: Path, key: str) -> None:
    (tmp_path / "link").symlink_to("corpus")
    with pytest.raises(SettingsError, match=f"^{key}: {tmp_path}/link/x lies inside corpus.uri"):
        Run.of(settings(**{key: f"{tmp_path}/link/x"}))


def test_a_plan_says_which_files_are_passed_over(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "_notes.md").touch()
    (tmp_path / "corpus" / "map.png").touch()
    lines = [check.line for check in Index.of(settings()).plan().checks if check.name == "files"]
    assert lines == [
        "corpus.uri: passed over 1 file (.md), name begins with . or _: _notes.md",
        "corpus.uri: passed over 1 file (.png), no reader for this extension: map.png",
    ]


def test_a_folder_whose_name_only_begins_like_the_inputs_is_free(settings: Settings, tmp_path: Path) -> None:
    assert Run.of(settings(index__uri=f"{tmp_path}/corpus-index")).plan().errors == []


def test_prompts_that_were_edited_since_they_were_listed_are_refused(settings: Settings, tmp_path: Path) -> None:
    run = Run.of(settings())
    (tmp_path / "prompts.csv").write_text("prompt\nWho?\n")
    with pytest.raises(
        DataError, match=r"^prompts.uri: .*prompts.csv: was changed while the job was running; leave inputs"
    ):
        run.plan().require()


def test_a_document_that_was_edited_since_it_was_listed_isnt_read(settings: Settings, tmp_path: Path) -> None:
    index = Index.of(settings()).index
    assert isinstance(index, PendingIndex)
    (unit,) = plan_slices(index.segments, 9, 10**9)
    (tmp_path / "corpus" / "depot.md").write_text("It has burnt down.")
    with pytest.raises(DataError, match=r"^.*/depot.md: was changed while the job was running; leave inputs alone"):
        ReadDocuments(index.settings.corpus, frozenset())(unit)
