"""A Chroma server on loopback for the job's own time: supervised, and never left behind."""

import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from threading import Event, Thread
from typing import Self

import httpx
import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ragjob.errors import DependencyError
from ragjob.settings import FAMILY

log = logging.getLogger(__name__)

PREFIX = "ragjob-chroma-"
LOCK = ".ragjob.lock"
LOG = "ragjob-chroma.log"
LOCK_S = 5.0  # the server of a job that was just killed may still be ending
READY_S = 60.0
END_S = 5.0
FRESH_S = 60.0  # a younger temporary folder may belong to a job that hasn't locked it yet
PORT_TRIES = 5
PROBE_BYTES = 2**20  # what a server without data writes, about
RESTARTS = 5  # a torn index costs three before it is known for one

# The rust bindings are what the `chroma` command runs, without the second that importing chromadb takes.
BOOT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the job ended before its server began")
# `ray job stop` signals each descendant of the job, but the job still needs its server to end well.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
import chromadb_rust_bindings
chromadb_rust_bindings.cli(["chroma", *sys.argv[2:]])
"""


class LocalChroma:
    """A Chroma server whose data is in `path`, or in a temporary folder that goes with it.

    It starts when the block is entered, which doesn't wait for it, and has ended when the block is left. If it dies in
    between, it is started again, up to five times, with the same url and data.
    """

    def __init__(self, path: str | None) -> None:
        # Absolute from here on: the thread runs while Ray starts, in another current folder.
        self._path = None if path is None else str(Path(path).absolute())
        self._url: Future[str] = Future()
        self._stopping = Event()
        # One thread forks every time and lives as long: with it Linux ends what it forked.
        self._thread = Thread(target=self._run, name="ragjob-chroma", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def url(self) -> str:
        """The server's url, once it answers.

        Raises `DependencyError` when the folder can't be used or is another job's, or the server doesn't start.
        """
        return self._url.result()

    def _run(self) -> None:
        try:
            with _data_folder(self._path) as (folder, lock):
                self._serve(folder, lock)
        except DependencyError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever ends this thread, nobody may wait for its server
            what = f"{type(error).__name__}: {error}"
            self._fail(
                DependencyError(
                    f"chroma.path: the job's own server ended ({what}): run the job again, or set chroma.url"
                )
            )

    def _fail(self, error: DependencyError) -> None:
        if self._url.done():
            log.error("%s", error)
        else:
            self._url.set_exception(error)

    def _serve(self, folder: Path, lock: int) -> None:
        (folder / LOG).unlink(missing_ok=True)
        server, port = self._start_somewhere(folder, lock)
        self._url.set_result(f"http://127.0.0.1:{port}")
        for _ in range(RESTARTS):
            if self._stopped(server):
                return
            log.warning("the local Chroma server died: starting it again", extra={"code": server.returncode})
            server = _launch(folder, lock, port)
        if not self._stopped(server):
            raise DependencyError(
                f"chroma.path: the server died {RESTARTS + 1} times ({_last_line(folder)}): give it more memory and "
                "disk space, or set chroma.url"
            )

    def _start_somewhere(self, folder: Path, lock: int) -> tuple[subprocess.Popen[bytes], int]:
        """Start on a free port, on another one if that is taken meanwhile."""
        for _ in range(PORT_TRIES):
            port = _free_port()
            server = _launch(folder, lock, port)
            if self._is_ready(server, port):
                return server, port
            if server.poll() is None:  # it hangs, or the job stops it: another port would be no better
                _end(server)
                break
        raise DependencyError(
            f"chroma.path: the server in {folder} doesn't start ({_last_line(folder)}): "
            "repair or empty that folder, or set chroma.url"
        )

    def _is_ready(self, server: subprocess.Popen[bytes], port: int) -> bool:
        """Wait until it answers: false when it ended before, or didn't in time."""
        deadline = time.monotonic() + READY_S
        while server.poll() is None and time.monotonic() < deadline:
            if _answers(server.pid, port):
                return True
            if self._stopping.wait(0.02):
                return False
        return False

    def _stopped(self, server: subprocess.Popen[bytes]) -> bool:
        """Wait until the job stops the server (true) or it dies (false)."""
        while server.poll() is None:
            if self._stopping.wait(0.1):
                _end(server)
                return True
        return False


def check_folder(path: str) -> None:
    """Raise `DependencyError` unless a server could keep its data in `path` now: free, writable and with space."""
    with _data_folder(path) as (folder, _), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(PROBE_BYTES))
        probe.flush()


@contextmanager
def _data_folder(path: str | None) -> Iterator[tuple[Path, int]]:
    """The server's folder and its lock: a descriptor that the server inherits, so it is held while one lives."""
    try:
        with _locked_folder(path) as folder_and_lock:
            yield folder_and_lock
    except OSError as error:
        raise DependencyError(
            f"chroma.path: {path or tempfile.gettempdir()}: {error}; name a writable folder with enough space"
        ) from error


@contextmanager
def _locked_folder(path: str | None) -> Iterator[tuple[Path, int]]:
    _sweep()
    folder = Path(path or tempfile.mkdtemp(prefix=PREFIX)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _open_lock(folder)
    try:
        _acquire(lock, folder)
        yield folder, lock
    finally:
        if path is None:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _acquire(lock: int, folder: Path) -> None:
    waiting = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(LOCK_S),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    try:
        waiting(fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DependencyError(
            f"chroma.path: {folder} is in use by another job's Chroma server; wait for it to end, "
            "or set chroma.path to another folder"
        ) from error


def _sweep() -> None:
    """Remove the temporary folders of jobs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or swept by another job at this moment
            _sweep_folder(folder)


def _sweep_folder(folder: Path) -> None:
    status = folder.lstat()
    # Another user may have put it there, or a link to a folder of this user's.
    if status.st_uid != os.geteuid() or not S_ISDIR(status.st_mode) or time.time() - status.st_mtime < FRESH_S:
        return
    lock = _open_lock(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    """A descriptor of the folder's lock. Raises `OSError` where a link stands in its place."""
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _launch(folder: Path, lock: int, port: int) -> subprocess.Popen[bytes]:
    listen = ["run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / LOG).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, str(os.getpid()), *listen],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd=folder,
            pass_fds=[lock],
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    """This process's variables, without the mark by which Ray's are found and killed: a server ends by itself."""
    plain = {name: value for name, value in os.environ.copy().items() if name != FAMILY}
    return plain | {"NO_COLOR": "1", "ANONYMIZED_TELEMETRY": "False"}


def _answers(pid: int, port: int) -> bool:
    """Whether this very process serves Chroma on `port`, and not one that took it first."""
    try:
        listening = psutil.Process(pid).net_connections("tcp4")
    except psutil.Error:
        return False
    if not any(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port for connection in listening):
        return False
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=1, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def _end(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(END_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _last_line(folder: Path) -> str:
    lines = (folder / LOG).read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
