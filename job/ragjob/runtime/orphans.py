"""A guard beside the job: nothing that the job starts or writes here outlives it, even after SIGKILL."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ragjob.errors import DependencyError
from ragjob.runtime import guard
from ragjob.settings import FAMILY

RAY_TMPDIR = "RAY_TMPDIR"  # the variable that names Ray's folder for temporary files
# A longer folder leaves too little of the 103 bytes that the path of a socket may have (107 on Linux).
MOST_BYTES = 103 - len("/ragjob-00000000/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")


@dataclass(frozen=True)
class Guarded:
    """What ends with the job: processes that start with the variable `mark`, and `folder`.

    The folder is new and empty, and no other user can enter it.
    """

    mark: dict[str, str]
    folder: Path


@contextmanager
def ended_with_this_process() -> Iterator[Guarded]:
    """A guard for the time of the block; it ends what is left when the block or this process ends."""
    name = uuid4().hex
    folder = _parent() / f"ragjob-{name[:8]}"
    # Isolated from this program's environment and path, and in a session that no terminal or kill reaches.
    process = subprocess.Popen(
        [sys.executable, "-I", guard.__file__, f"{FAMILY}={name}", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _make(folder)  # after the start of what removes it
        yield Guarded({FAMILY: name}, folder)
    finally:
        process.communicate()


def _parent() -> Path:
    """The folder for temporary files, or /tmp where paths in that one are too long for Ray's sockets."""
    if named := os.environ.get(RAY_TMPDIR):
        return Path(named).absolute()
    folder = Path(tempfile.gettempdir()).absolute()
    return folder if len(os.fsencode(folder)) <= MOST_BYTES else Path("/tmp")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        variable = RAY_TMPDIR if os.environ.get(RAY_TMPDIR) else "TMPDIR"
        raise DependencyError(f"{variable}: {folder}: {error.strerror}; name a writable folder") from error
