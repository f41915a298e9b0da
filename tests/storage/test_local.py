import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from job import storage
from job.errors import DataError, DependencyError
from job.storage import list_inputs

SUFFIXES = (".txt", ".md")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five files to be read, among others."""
    folder = tmp_path / "corpus"
    for name in ("b.txt", "a.md", "sub/c.txt", "sub/deep/d.txt", "Z.txt", "picture.png", ".git/e.txt", "_tmp/f.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "_g.txt").touch()
    (folder / ".h.txt").touch()
    return folder


def paths(uri: Path | str) -> list[str]:
    return [entry.path for entry in list_inputs(str(uri), SUFFIXES, "corpus.uri")]


def test_a_folder_is_listed_in_order_of_paths_without_hidden_and_other_files(corpus: Path) -> None:
    assert paths(corpus) == ["Z.txt", "a.md", "b.txt", "sub/c.txt", "sub/deep/d.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["Z.txt", "b.txt"]),
        ("*", ["Z.txt", "a.md", "b.txt"]),
        ("**/*.txt", ["Z.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("sub/**/*", ["c.txt", "deep/d.txt"]),
        ("s*/c.txt", ["sub/c.txt"]),
        ("[ab].*", ["a.md", "b.txt"]),
        ("?.md", ["a.md"]),
    ],
)
def test_a_globs_paths_are_relative_to_its_part_without_wildcards(corpus: Path, pattern: str, found: list[str]) -> None:
    assert paths(corpus / pattern) == found


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_single_files_path_is_its_name(corpus: Path, prefix: str) -> None:
    assert paths(f"{prefix}{corpus}/sub/c.txt") == ["c.txt"]


def test_a_file_that_is_named_is_taken_though_its_name_is_hidden(corpus: Path) -> None:
    assert paths(corpus / "_g.txt") == ["_g.txt"]


def test_a_folder_whose_name_has_wildcards_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]" / "x.txt").touch()
    assert paths(tmp_path / "a[1]") == ["x.txt"]


def test_a_relative_uri_is_listed_from_here(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    assert [paths("sub"), paths("*.md")] == [["c.txt", "deep/d.txt"], ["a.md"]]


def test_an_entry_changes_with_its_file(corpus: Path) -> None:
    before = list_inputs(str(corpus / "b.txt"), SUFFIXES, "corpus.uri")
    os.utime(corpus / "b.txt", (0, 0))
    assert list_inputs(str(corpus / "b.txt"), SUFFIXES, "corpus.uri") != before


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("none", "nothing there"),
        ("none/*.txt", "nothing there"),
        ("_tmp", "nothing that ends in .txt, .md"),
        ("picture.png", "nothing that ends in .txt, .md"),
        ("*.png", "nothing that ends in .txt, .md"),
    ],
)
def test_an_input_without_files_is_named_with_its_setting(corpus: Path, name: str, found: str) -> None:
    (corpus / "_tmp" / "f.txt").rename(corpus / "_tmp" / "f.bin")
    with pytest.raises(DataError, match=f"^corpus.uri: .*: {found}; name an existing file, folder or glob$"):
        paths(corpus / name)


def test_a_name_that_no_file_can_have_is_a_dependency_error(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="File name too long"):
        paths(tmp_path / ("x" * 5000))


def test_names_are_those_of_files_right_in_a_folder(corpus: Path) -> None:
    assert storage.list_names(str(corpus)) == [".h.txt", "Z.txt", "_g.txt", "a.md", "b.txt", "picture.png"]


def test_there_are_no_names_in_a_folder_that_isnt_there(tmp_path: Path) -> None:
    assert storage.list_names(str(tmp_path / "none")) == []


def test_what_was_put_is_read_back(tmp_path: Path) -> None:
    uri = storage.join(str(tmp_path), "new", "folder", "part")
    storage.put(uri, b"content")
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"content"


def test_a_reader_of_a_file_that_is_put_anew_goes_on_with_the_old_one(tmp_path: Path) -> None:
    uri = str(tmp_path / "current.json")
    storage.put(uri, b"old")
    with storage.open_input(uri) as reader:
        storage.put(uri, b"new")
        assert (reader.read(), storage.read_bytes(uri)) == (b"old", b"new")


def test_of_many_that_put_if_absent_one_wins(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: storage.put_if_absent(str(tmp_path / "x"), content), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(str(tmp_path / "x")) == contents[won.index(True)]
    assert storage.list_names(str(tmp_path)) == ["x"]


def test_losing_to_one_that_published_meanwhile_leaves_its_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "answers.parquet")

    def write(file: BinaryIO) -> None:
        file.write(b"ours")
        storage.put(uri, b"theirs")

    assert storage.publish(uri, write) is False
    assert storage.read_bytes(uri) == b"theirs"
    assert storage.list_names(str(tmp_path)) == ["answers.parquet"]


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "x"), b"first")
    assert storage.publish(str(tmp_path / "x"), lambda file: file.write(b"second")) is False
    assert storage.read_bytes(str(tmp_path / "x")) == b"first"


def test_a_file_isnt_seen_before_it_is_whole(tmp_path: Path) -> None:
    uri = str(tmp_path / "answers.parquet")
    seen: list[bool] = []
    assert storage.publish(uri, lambda file: [file.write(b"half"), seen.append(storage.exists(uri))])
    assert seen == [False]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, DataError])
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    with pytest.raises(failure):
        storage.publish(str(tmp_path / "answers.parquet"), write)
    assert storage.list_names(str(tmp_path)) == []


def test_what_is_half_written_has_a_name_that_readers_pass_over(tmp_path: Path) -> None:
    names: list[str] = []
    storage.publish(str(tmp_path / "x.txt"), lambda file: names.extend(storage.list_names(str(tmp_path))))
    assert [name[0] for name in names] == ["_"]


def test_deleting_what_is_gone_is_fine(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "x"), b"")
    storage.delete([str(tmp_path / "none"), str(tmp_path / "x")])
    assert storage.list_names(str(tmp_path)) == []


def test_a_deleted_folder_is_gone_with_its_files(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "_staging" / "run" / "part"), b"")
    storage.delete_folder(str(tmp_path / "_staging" / "run"))
    assert list(tmp_path.iterdir()) == []


def test_deleting_one_runs_folder_leaves_its_neighbours(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "_staging" / "run" / "part"), b"")
    storage.put(str(tmp_path / "_staging" / "other" / "part"), b"")
    storage.delete_folder(str(tmp_path / "_staging" / "run"))
    assert [path.name for path in (tmp_path / "_staging").iterdir()] == ["other"]


@pytest.mark.parametrize("read", [storage.open_input, storage.read_bytes])
def test_a_file_that_isnt_there_is_a_data_error(tmp_path: Path, read: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/none: no such file; check its address, or put it there$"):
        read(str(tmp_path / "none"))


WRITERS = pytest.mark.parametrize("write", [storage.put, storage.put_if_absent])


@WRITERS
def test_a_place_below_a_file_cant_be_written(tmp_path: Path, write: Callable[[str, bytes], object]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=f"^{tmp_path}/file/x: .*; check its rights$"):
        write(str(tmp_path / "file" / "x"), b"")


@WRITERS
def test_a_place_that_takes_no_folders_cant_be_written(write: Callable[[str, bytes], object]) -> None:
    with pytest.raises(DependencyError, match=r"^/proc/ragjob/x: .*; check its rights$"):
        write("/proc/ragjob/x", b"")


@WRITERS
def test_a_full_disk_asks_for_space_and_keeps_nothing(small_disk: Path, write: Callable[[str, bytes], object]) -> None:
    with pytest.raises(DependencyError, match=f"^{small_disk}/x: No space left on device; free some space$"):
        write(str(small_disk / "x"), bytes(2**20))
    assert storage.list_names(str(small_disk)) == []


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    storage.check_writable(str(tmp_path / "out"), "output.uri")
    assert storage.list_names(str(tmp_path / "out")) == []


def test_a_place_that_cant_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=f"^output.uri: {tmp_path}/file/out/"):
        storage.check_writable(str(tmp_path / "file" / "out"), "output.uri")
