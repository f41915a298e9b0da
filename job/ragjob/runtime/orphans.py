"""A guard beside the job: nothing that the job starts or writes here outlives it, even after SIGKILL."""

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


@dataclass(frozen=True)
class Guarded:
    """What ends with the job: processes that start with the variable `mark`, and `folder`, which is new and empty."""

    mark: dict[str, str]
    folder: Path


@contextmanager
def ended_with_this_process() -> Iterator[Guarded]:
    """A guard for the time of the block; it ends what is left when the block or this process ends."""
    name = uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"ragjob-{name}"
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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise DependencyError(f"TMPDIR: {folder}: {error.strerror}; name a folder that this job may write") from error
