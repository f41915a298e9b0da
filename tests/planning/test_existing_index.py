"""A plan looks at the index that is there: what remains to do, which version answers, and what is refused."""

from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.commands.answer import Answer
from ragjob.commands.registry import COMMANDS, Command
from ragjob.commands.run import Run
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.planning.identity import CommittedIndex, PendingIndex
from tests.planning.jobs import Settings, check_lines, commit, make_model


def flows(command: Command) -> list[str]:
    """The flows whose pools a plan packs."""
    line = check_lines(command)["pools"]
    return [] if line == "none" else [part.partition(":")[0] for part in line.split("; ")]


def test_what_remains_depends_on_command_and_version(settings: Settings) -> None:
    before = [flows(COMMANDS[command].of(settings())) for command in ("index", "run")]
    commit(settings())
    after = [flows(COMMANDS[command].of(settings())) for command in ("index", "run", "answer", "load")]
    assert before == [["index"], ["index", "answer"]]
    assert after == [["index"], ["index", "answer"], ["index", "answer"], []]  # for the sentences


def test_nothing_is_embedded_for_a_version_whose_sentences_are_there_or_not_wanted(settings: Settings) -> None:
    commit(settings())
    unwanted = {"retrieve.sentences": "false"}
    without = [flows(COMMANDS[command].of(settings(**unwanted))) for command in ("index", "answer")]
    index = Run.of(settings()).index
    assert isinstance(index, CommittedIndex)
    types = schema.sentences_embedded(2)
    for part in index.sentences.missing():
        index.sentences.staged.write(part, pa.table([pa.array([[]], kind) for kind in types.types], types))
    index.sentences.join()
    there = [flows(COMMANDS[command].of(settings())) for command in ("index", "answer")]
    assert without == there == [[], ["answer"]]


def test_an_index_is_pending_until_it_is_committed(settings: Settings) -> None:
    before = Run.of(settings()).index
    commit(settings())
    after = Run.of(settings()).index
    assert (type(before), type(after)) == (PendingIndex, CommittedIndex)
    assert before.ledger.version == after.ledger.version


def test_answers_come_from_the_current_version_or_the_one_named(settings: Settings) -> None:
    first = commit(settings())
    second = commit(settings(corpus__id_column="id"))
    assert first != second
    assert Answer.of(settings()).index.ledger.version == second
    assert Answer.of(settings(index__version=first)).index.ledger.version == first


@pytest.mark.parametrize("command", ["answer", "load"])
def test_an_index_that_isnt_there_is_named(settings: Settings, command: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^index.uri: no index in {tmp_path}/index; run `ragjob index`$"):
        COMMANDS[command].of(settings())
    with pytest.raises(DataError, match=r"^index.version: no index version v9 in .*; run `ragjob index`$"):
        COMMANDS[command].of(settings(index__version="v9"))


def test_an_index_of_another_release_is_refused(settings: Settings) -> None:
    version = commit(settings(), format=0)
    with pytest.raises(DataError, match=f"^index.uri: version {version} was made by another release; run"):
        COMMANDS["answer"].of(settings())


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [
        ("chunk.size", "100", "200, but the settings say 100"),
        ("embed.max_length", "64", "None, but the settings say 64"),
    ],
)
def test_an_index_of_other_settings_is_refused(settings: Settings, key: str, value: str, difference: str) -> None:
    commit(settings())
    with pytest.raises(DataError, match=f"^{key}: index version .* was made with {difference}; set it back, or run"):
        COMMANDS["answer"].of(settings(**{key: value}))


def test_an_index_of_another_model_is_refused_by_both_names(
    settings: Settings, model: Path, tmp_path: Path, minilm: str
) -> None:
    commit(settings())
    other = make_model(tmp_path / "other", minilm, b"34")
    with pytest.raises(DataError, match=f"^embed.model: .* was made with '{model}@.*', but the settings say '{other}@"):
        COMMANDS["answer"].of(settings(embed__model=other))
