"""What is special about disks."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from ragjob import storage
from ragjob.errors import DependencyError
from ragjob.storage import list_inputs


def refuse(path: str) -> str | None:
    return None if path.endswith((".txt", ".md")) else "no text"


LISTINGS = 5000


def paths(uri: str) -> list[str]:
    return [entry.path for entry in list_inputs(uri, refuse, "corpus.uri").entries]


def test_a_relative_uri_is_listed_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.put("sub/c.txt", b"")
    storage.put("a.md", b"")
    assert [paths("sub"), paths("*.md"), paths(f"file://{tmp_path}/sub")] == [["c.txt"], ["a.md"], ["c.txt"]]


def test_a_name_that_no_file_can_have_is_a_dependency_error(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"^corpus.uri: .*File name too long"):
        paths(str(tmp_path / ("x" * 5000)))


def test_a_reader_of_a_file_that_is_put_anew_goes_on_with_the_old_one(tmp_path: Path) -> None:
    uri = str(tmp_path / "current.json")
    storage.put(uri, b"old")
    with storage.open_input(uri) as reader:
        storage.put(uri, b"new")
        assert (reader.read(), storage.read_bytes(uri)) == (b"old", b"new")


@pytest.mark.parametrize(("umask", "rights"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_whatever_is_written_has_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int, rights: int) -> None:
    before = os.umask(umask)
    try:
        storage.put(str(tmp_path / "out" / "put"), b"")
        storage.put_if_absent(str(tmp_path / "out" / "absent"), b"")
        storage.publish(str(tmp_path / "out" / "published"), lambda file: file.write(b""))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == dict.fromkeys(
        ["put", "absent", "published"], rights
    )
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


def test_what_is_half_written_has_a_name_that_readers_pass_over(tmp_path: Path) -> None:
    names: list[str] = []
    storage.publish(str(tmp_path / "x.txt"), lambda file: names.extend(storage.list_names(str(tmp_path))))
    assert [name[0] for name in names] == ["_"]


def test_a_folder_that_comes_and_goes_holds_nothing(tmp_path: Path) -> None:
    folder, listed = tmp_path / "parent" / "folder", Event()

    def flicker() -> None:
        while not listed.is_set():
            folder.mkdir(parents=True)
            folder.rmdir()
            folder.parent.rmdir()

    with ThreadPoolExecutor(1) as pool:
        flickering = pool.submit(flicker)
        try:
            listings = [storage.list_names(str(folder)) + storage.list_files(str(tmp_path)) for _ in range(LISTINGS)]
        finally:
            listed.set()
    flickering.result()
    assert listings == [[]] * LISTINGS


def test_of_many_that_put_if_absent_one_wins(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: storage.put_if_absent(str(tmp_path / "x"), content), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(str(tmp_path / "x")) == contents[won.index(True)]
    assert storage.list_names(str(tmp_path)) == ["x"]


@pytest.mark.parametrize("write", [storage.put, storage.put_if_absent])
def test_a_file_is_put_again_when_its_temporary_one_was_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, bytes], object]
) -> None:
    uri = str(tmp_path / "x")
    sweep_once = [lambda: storage.sweep_unfinished(uri)]
    synced = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced(handle), sweep_once and sweep_once.pop()()))
    write(uri, b"content")
    assert storage.read_bytes(uri) == b"content"
    assert (sweep_once, storage.list_names(str(tmp_path))) == ([], ["x"])


def test_a_deleted_folder_is_gone_with_its_files(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "_staging" / "run" / "part"), b"")
    storage.delete_folder(str(tmp_path / "_staging" / "run"))
    assert list(tmp_path.iterdir()) == []


WRITERS = pytest.mark.parametrize("write", [storage.put, storage.put_if_absent])


@WRITERS
def test_a_place_below_a_file_cant_be_written(tmp_path: Path, write: Callable[[str, bytes], object]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=f"^{tmp_path}/file/x: .*; check its permissions$"):
        write(str(tmp_path / "file" / "x"), b"")


@WRITERS
def test_a_place_that_takes_no_folders_cant_be_written(write: Callable[[str, bytes], object]) -> None:
    with pytest.raises(DependencyError, match=r"^/proc/ragjob/x: .*; check its permissions$"):
        write("/proc/ragjob/x", b"")


@WRITERS
def test_a_full_disk_asks_for_space_and_keeps_nothing(small_disk: Path, write: Callable[[str, bytes], object]) -> None:
    with pytest.raises(DependencyError, match=f"^{small_disk}/x: No space left on device; free some space$"):
        write(str(small_disk / "x"), bytes(2**20))
    assert storage.list_names(str(small_disk)) == []


def test_a_place_that_cant_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=f"^output.uri: {tmp_path}/file/out/"):
        storage.check_writable(str(tmp_path / "file" / "out"), "output.uri")
