"""Which files of an input are read, and what is said of the others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.config import load_settings
from ragjob.documents.inputs import list_corpus, list_prompts
from ragjob.documents.settings import Corpus
from ragjob.errors import DataError, SettingsError
from ragjob.storage import PassedOver

FILES = ["a.txt", "b.md", "drafts/c.txt", "drafts/old/d.txt", "sub/e.md", "f.png", "g.PNG", "h.png", "i.png", "none"]


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "drafts" / "old").mkdir(parents=True)
    (tmp_path / "sub").mkdir()
    [(tmp_path / name).write_text(name) for name in FILES]
    return str(tmp_path)


def paths(uri: str, **settings: list[str]) -> list[str]:
    return [entry.path for entry in list_corpus(uri, Corpus(**settings)).entries]


def test_files_without_a_reader_are_counted_by_extension_with_the_first_names(corpus: str) -> None:
    unread = "no reader for this extension"
    assert list_corpus(corpus, Corpus()).passed_over == [
        PassedOver("corpus.uri", unread, "", 1, ["none"]),
        PassedOver("corpus.uri", unread, ".png", 4, ["f.png", "g.PNG", "h.png"]),
    ]


def test_prompts_that_arent_read_are_counted_too(corpus: str) -> None:
    lines = {files.extension: f"{files.setting}: {files}" for files in list_prompts(corpus).passed_over}
    assert lines[".md"] == "prompts.uri: passed over 2 files (.md), no reader for this extension: b.md, sub/e.md"


def test_what_is_passed_over_is_told_in_one_line() -> None:
    files = PassedOver("corpus.uri", "name begins with . or _", "", 1200, ["a\nb", "c\x1b[1m", "d\u202e"])
    shown = r"a\nb, c\x1b[1m, d\u202e, ..."
    assert str(files) == f"passed over 1,200 files (no extension), name begins with . or _: {shown}"


@pytest.mark.parametrize(
    ("include", "exclude", "read"),
    [
        (["*.txt"], [], ["a.txt"]),
        (["**/*.md"], [], ["b.md", "sub/e.md"]),
        (["drafts/**", "b.md"], [], ["b.md", "drafts/c.txt", "drafts/old/d.txt"]),
        ([], ["drafts/**"], ["a.txt", "b.md", "sub/e.md"]),
        ([], ["**/old/*", "[ab].*"], ["drafts/c.txt", "sub/e.md"]),
        (["**/*.txt"], ["drafts/**"], ["a.txt"]),
    ],
)
def test_patterns_say_which_files_are_read(
    corpus: str, include: list[str], exclude: list[str], read: list[str]
) -> None:
    assert paths(corpus, include=include, exclude=exclude) == read


def test_files_that_patterns_leave_out_are_counted(corpus: str) -> None:
    listing = list_corpus(corpus, Corpus(include=["drafts/**"], exclude=["**/old/**"]))
    assert [(files.reason, files.extension, files.count) for files in listing.passed_over] == [
        ("in corpus.exclude", ".txt", 1),
        ("not in corpus.include", "", 1),
        ("not in corpus.include", ".md", 2),
        ("not in corpus.include", ".png", 4),
        ("not in corpus.include", ".txt", 1),
    ]


def test_patterns_that_leave_nothing_are_named(corpus: str) -> None:
    with pytest.raises(DataError, match=r"^corpus.uri: .*passed over 3 files \(.txt\), in corpus.exclude: a.txt, draf"):
        paths(corpus, exclude=["**"])


@given(st.sets(st.sampled_from(FILES), min_size=1), st.sets(st.sampled_from(FILES)))
def test_every_file_is_read_or_counted(
    tmp_path_factory: pytest.TempPathFactory, there: set[str], excluded: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "sub").mkdir()
    (folder / "drafts" / "old").mkdir(parents=True)
    (folder / "sure.txt").touch()
    [(folder / name).touch() for name in there]
    listing = list_corpus(str(folder), Corpus(exclude=sorted(excluded)))
    assert len(listing.entries) + sum(files.count for files in listing.passed_over) == len(there) + 1


@pytest.mark.parametrize("pattern", ["", "drafts/", "/drafts", "../x", "./*.txt", "a//b", "**.md", "drafts/**x"])
@pytest.mark.parametrize("key", ["include", "exclude"])
def test_a_pattern_that_can_match_nothing_is_refused(key: str, pattern: str) -> None:
    with pytest.raises(SettingsError, match=rf"^corpus.{key}.0: '.*' matches no path inside corpus.uri: write it"):
        load_settings(None, [f"corpus.{key}=['{pattern}']"])
