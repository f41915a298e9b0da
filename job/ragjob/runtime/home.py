"""A home for the libraries that keep files in one: Ray its token, the model libraries their caches."""

import logging
import os
import pwd
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ragjob.errors import DependencyError

log = logging.getLogger(__name__)


def settle_home() -> None:
    """Make sure that HOME is a writable folder, for this process and all that it starts.

    If it isn't writable, or is `/`, a temporary folder of this user takes its place, the same one for later jobs.
    Raises `DependencyError` if there can't be one.
    """
    try:
        user_home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # libraries ask for the user's name, and fail without one
        user_home = ""
        os.environ.setdefault("USER", f"uid-{os.getuid()}")
    try:
        temporary = tempfile.gettempdir()
    except OSError as error:
        raise DependencyError("TMPDIR: no temporary folder is writable; name one that is") from error
    given = os.environ.setdefault("HOME", user_home)
    if Path(given).is_absolute() and given.strip("/") and _can_write(given):
        return
    folder = Path(temporary) / f"ragjob-home-{os.getuid()}"
    _make_private(folder)
    log.warning("HOME can't be used; set it to keep models", extra={"HOME": given, "in_its_place": str(folder)})
    os.environ["HOME"] = str(folder)


def _can_write(folder: str) -> bool:
    with suppress(OSError), tempfile.TemporaryFile(dir=folder):
        return True
    return False


def _make_private(folder: Path) -> None:
    """Make the folder, or take one that is there and that nobody else could have prepared."""
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise DependencyError(f"HOME: {folder}: {error.strerror}; set HOME to a writable folder") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise DependencyError(f"HOME: {folder} isn't private to this user; set HOME to a writable folder")
