"""The local Chroma server's life: it is there as long as its job, and no longer."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from ragjob.errors import DependencyError
from ragjob.retrieval.chroma import server as chroma_server
from ragjob.retrieval.chroma.server import LocalChroma

pytestmark = pytest.mark.services

# Like a driver it goes on after SIGTERM until it has ended well: here, at the end of its input.
JOB = """
import signal, sys
from ragjob.retrieval.chroma.server import LocalChroma
signal.signal(signal.SIGTERM, lambda *_: None)
with LocalChroma(sys.argv[1] if len(sys.argv) > 1 else None) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test and of the jobs it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@contextmanager
def job(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A job in a process group of its own, and the url of its server."""
    command = [sys.executable, "-c", JOB, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, process_group=0) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def server_of(process: psutil.Process, url: str) -> psutil.Process:
    port = url.rpartition(":")[2]
    [server] = [child for child in process.children() if port in child.cmdline()]
    return server


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/heartbeat").is_success
    except httpx.TransportError:
        return False


def age(folder: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago))


def test_a_server_with_a_path_keeps_its_data_and_log_there(tmp_path: Path) -> None:
    with LocalChroma(str(tmp_path / "new" / "data")) as server:
        assert answers(server.url())

    assert not answers(server.url())
    assert (tmp_path / "new" / "data" / "chroma.sqlite3").exists()
    assert "listening" in (tmp_path / "new" / "data" / "ragjob-chroma.log").read_text()


def test_a_server_without_a_path_leaves_nothing_behind(temporary_files: Path) -> None:
    with LocalChroma(None) as server:
        assert answers(server.url())
        assert list(temporary_files.iterdir())

    assert list(temporary_files.iterdir()) == []


def test_a_server_ends_with_its_job_when_that_is_killed() -> None:
    with job() as (process, url):
        server = server_of(psutil.Process(process.pid), url)

        process.kill()

        server.wait(5)
    assert not answers(url)


def test_a_signal_to_the_job_and_its_descendants_leaves_the_server_to_the_job() -> None:
    with job() as (process, url):
        server = server_of(psutil.Process(process.pid), url)
        os.killpg(process.pid, signal.SIGTERM)
        server.terminate()  # as `ray job stop` does to each descendant
        time.sleep(0.3)
        assert answers(url)

        assert process.stdin
        process.stdin.close()

        assert process.wait(5) == 0
        assert not server.is_running()


def test_a_server_that_dies_comes_back_with_its_url_and_data() -> None:
    with LocalChroma(None) as server:
        collections = f"{server.url()}/api/v2/tenants/default_tenant/databases/default_database/collections"
        httpx.post(collections, json={"name": "kept"}).raise_for_status()
        server_of(psutil.Process(), server.url()).kill()
        wait_until_gone_and_back(server.url())

        assert [collection["name"] for collection in httpx.get(collections).json()] == ["kept"]


def wait_until_gone_and_back(url: str) -> None:
    deadline = time.monotonic() + 10
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.01)
    while not answers(url) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_second_job_on_the_same_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_server, "LOCK_S", 0.2)

    refused = pytest.raises(DependencyError, match=r"chroma\.path: .* is in use by another job")
    with job(str(tmp_path)), LocalChroma(str(tmp_path)) as second, refused:
        second.url()


def test_a_job_takes_over_the_path_of_one_that_was_just_killed(tmp_path: Path) -> None:
    with job(str(tmp_path)) as (process, _):
        process.kill()
        with LocalChroma(str(tmp_path)) as server:
            assert answers(server.url())


def test_folders_of_killed_jobs_are_swept_and_those_of_live_ones_are_not(temporary_files: Path) -> None:
    stale = temporary_files / "ragjob-chroma-stale"
    stale.mkdir()
    (stale / "chroma.sqlite3").touch()
    fresh = temporary_files / "ragjob-chroma-fresh"
    fresh.mkdir()
    age(stale)
    with job():
        [live] = set(temporary_files.iterdir()) - {stale, fresh}
        age(live)
        with LocalChroma(None) as server:
            assert answers(server.url())

            assert not stale.exists()
            assert fresh.exists()
            assert live.exists()


ANOTHER_USER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


@as_root
def test_a_folder_of_another_user_is_not_swept(temporary_files: Path) -> None:
    theirs = temporary_files / "ragjob-chroma-theirs"
    theirs.mkdir()
    (theirs / "kept").touch()
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    age(theirs)
    with LocalChroma(None) as server:
        assert answers(server.url())
    assert [file.name for file in theirs.iterdir()] == ["kept"]


def test_a_link_in_the_place_of_a_stale_folder_is_not_followed(temporary_files: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").touch()
    link = temporary_files / "ragjob-chroma-link"
    link.symlink_to(mine)
    long_ago = time.time() - 3600
    os.utime(link, (long_ago, long_ago), follow_symlinks=False)
    age(mine)
    with LocalChroma(None) as server:
        assert answers(server.url())
    assert [file.name for file in mine.iterdir()] == ["kept"]


def test_a_link_in_the_place_of_the_lock_is_not_opened(tmp_path: Path) -> None:
    data, theirs = tmp_path / "data", tmp_path / "theirs"
    data.mkdir()
    (data / ".ragjob.lock").symlink_to(theirs)
    refused = pytest.raises(
        DependencyError, match=r"chroma\.path: .*symbolic links.*\.ragjob\.lock.*; name a writable folder"
    )
    with LocalChroma(str(data)) as server, refused:
        server.url()
    assert not theirs.exists()


@as_root
def test_another_user_can_neither_read_nor_rename_what_a_running_server_keeps(temporary_files: Path) -> None:
    temporary_files.chmod(0o1777)  # as /tmp is
    with LocalChroma(None) as server:
        assert answers(server.url())
        [folder] = temporary_files.iterdir()
        tried = f"ls {folder}; mv {folder}/chroma.sqlite3 {folder}/theirs; mv {folder} {folder}.theirs"
        ended = subprocess.run(
            ["sh", "-c", tried], user=ANOTHER_USER, group=ANOTHER_USER, capture_output=True, text=True, check=False
        )
        assert ended.stdout == ""
        assert [file.name for file in temporary_files.iterdir()] == [folder.name]
        assert (folder / "chroma.sqlite3").exists()


def test_a_server_holds_the_lock_of_its_folder_by_itself(tmp_path: Path) -> None:
    with LocalChroma(str(tmp_path)) as server:
        inherited = server_of(psutil.Process(), server.url()).open_files()

        assert str(tmp_path / ".ragjob.lock") in [file.path for file in inherited]
        with (tmp_path / ".ragjob.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_port_that_is_taken_meanwhile_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ports = [taken.getsockname()[1], free.getsockname()[1]]
        free.close()
        monkeypatch.setattr(chroma_server, "_free_port", iter(ports).__next__)

        with LocalChroma(None) as server:
            assert server.url() == f"http://127.0.0.1:{ports[1]}"
            assert answers(server.url())


def test_a_path_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = pytest.raises(DependencyError, match=r"chroma\.path: .*file.*; name a writable folder")
    with LocalChroma(str(tmp_path / "file")) as server, refused:
        server.url()


def test_a_server_that_does_not_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").write_text("not a database")

    refused = pytest.raises(DependencyError, match=r"chroma\.path: .*file is not a database.*: repair or empty")
    with LocalChroma(str(tmp_path)) as server, refused:
        server.url()


def test_a_folder_that_a_server_could_use_passes_the_check_and_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()

    chroma_server.check_folder(str(tmp_path))

    assert sorted(file.name for file in tmp_path.iterdir()) == [".ragjob.lock", "kept", "tmp"]
    with LocalChroma(str(tmp_path)) as server:
        assert answers(server.url())


def test_a_folder_of_another_jobs_server_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_server, "LOCK_S", 0.2)

    with job(str(tmp_path)), pytest.raises(DependencyError, match=r"chroma\.path: .* is in use by another job"):
        chroma_server.check_folder(str(tmp_path))


def test_a_path_that_cannot_be_a_folder_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DependencyError, match=r"chroma\.path: .*file.*; name a writable folder"):
        chroma_server.check_folder(str(tmp_path / "file"))


def test_a_path_on_a_full_disk_fails_the_check(small_disk: Path) -> None:
    (small_disk / "full").write_bytes(bytes(64 * 1024))

    with pytest.raises(
        DependencyError, match=r"chroma\.path: .*No space left.*; name a writable folder with enough space"
    ):
        chroma_server.check_folder(str(small_disk / "chroma"))
