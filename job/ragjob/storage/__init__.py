"""Files and folders by uri, on disk or on S3: read, list, put whole, put if absent, publish."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from ragjob.errors import DataError, RagjobError, SettingsError, printable
from ragjob.storage import local
from ragjob.storage.local_paths import to_path
from ragjob.storage.names import (
    Entry,
    Listing,
    MissingError,
    PassedOver,
    Refuse,
    Skipped,
    Unfinished,
    count_passed_over,
)
from ragjob.storage.settings import configure

__all__ = [
    "Entry",
    "Listing",
    "MissingError",
    "PassedOver",
    "Refuse",
    "Unfinished",
    "absolute",
    "check_writable",
    "configure",
    "delete",
    "delete_folder",
    "exists",
    "join",
    "list_files",
    "list_inputs",
    "list_names",
    "list_unfinished",
    "local_path",
    "naming",
    "open_input",
    "publish",
    "put",
    "put_if_absent",
    "read_bytes",
    "resolved",
    "sweep_unfinished",
]

_S3 = "s3://"
_PUT_ATTEMPTS = 3  # at a file that others put and remove meanwhile


class _Place(Protocol):
    """What `local` and `s3` do under the same names."""

    def find(self, uri: str, refuse: Refuse) -> tuple[list[Entry], list[Skipped]]: ...
    def list_files(self, folder: str) -> list[Entry]: ...
    def list_names(self, folder: str) -> list[str]: ...
    def list_unfinished(self, folder: str) -> list[Unfinished]: ...
    def exists(self, uri: str) -> bool: ...
    def open_input(self, uri: str, tag: str | None) -> BinaryIO: ...
    def put(self, uri: str, content: bytes) -> None: ...
    def put_if_absent(self, uri: str, content: bytes) -> bool: ...
    def publish(self, uri: str, write: Callable[[BinaryIO], object]) -> bool: ...
    def delete(self, uris: list[str]) -> None: ...
    def delete_folder(self, folder: str) -> None: ...
    def sweep_unfinished(self, uri: str) -> None: ...
    def check_writable(self, probe: str) -> None: ...
    def absolute(self, uri: str) -> str: ...
    def resolved(self, uri: str) -> str: ...


def list_inputs(uri: str, refuse: Refuse, key: str) -> Listing:
    """List the files that `uri` (file, folder or glob) stands for, ordered by path inside it.

    It passes over files that `refuse` gives a reason for, files whose path inside a folder has a part that begins with
    `.` or `_`, and, on a disk, links that leave the folder. Raises `DataError` naming setting `key` when no file is
    left to read, and `DependencyError` for a folder that can't be listed.
    """
    with naming(key):
        entries, skipped = _place(uri).find(uri, refuse)
    entries, passed_over = sorted(entries, key=attrgetter("path")), count_passed_over(key, skipped)
    if not entries:
        reason = "; ".join(map(str, passed_over)) or "nothing there"
        raise DataError(f"{key}: {printable(uri)}: {reason}; name an existing file, folder or glob")
    for entry, following in pairwise(entries):
        if entry.path == following.path:  # two names of bytes that aren't UTF-8, written alike
            raise DataError(f"{key}: two files are called {printable(entry.path)}; rename one")
    return Listing(entries, passed_over)


def list_files(folder: str) -> list[Entry]:
    """All files below `folder`, hidden ones too, ordered by path inside it; none when there is no such folder."""
    return sorted(_place(folder).list_files(folder), key=lambda entry: entry.path)


def list_names(folder: str) -> list[str]:
    """Names of the files directly in `folder`, sorted; none when there is no such folder."""
    return sorted(_place(folder).list_names(folder))


def list_unfinished(folder: str) -> list[Unfinished]:
    """The writes below `folder` in progress, or left by a killed process; `sweep_unfinished` removes them."""
    return _place(folder).list_unfinished(folder)


def exists(uri: str) -> bool:
    """Return whether there is a file at `uri`."""
    return _place(uri).exists(uri)


def open_input(uri: str, tag: str | None = None) -> BinaryIO:
    """Open a file for reading, with seek.

    Raises `MissingError` when it isn't there, `DataError` when it is no longer the one that was listed with
    `tag`; on S3 a read raises that, too, once another object has taken its place.
    """
    return _place(uri).open_input(uri, tag)


def read_bytes(uri: str, tag: str | None = None) -> bytes:
    """Read a whole file. Raises as `open_input` does."""
    with open_input(uri, tag) as file:
        return file.read()


def put(uri: str, content: bytes) -> None:
    """Write a file whole: readers see the old one or the new one."""
    _place(uri).put(uri, content)


def put_if_absent(uri: str, content: bytes) -> bool:
    """Write a file whole unless there is one; return whether `content` is what is there."""
    for _ in range(_PUT_ATTEMPTS):
        if _place(uri).put_if_absent(uri, content):
            return True
        with suppress(MissingError):  # removed meanwhile
            return read_bytes(uri) == content
    raise MissingError(f"{uri}: keeps being written and removed by others; run one job at a time here")


def publish(uri: str, write: Callable[[BinaryIO], object]) -> bool:
    """Let `write` fill a file that appears at `uri` only when whole, and only if there is none by then.

    Returns whether this call's file is what is there.
    """
    return _place(uri).publish(uri, write)


def delete(uris: Iterable[str]) -> None:
    """Remove files; those that are gone already are fine."""
    for place, group in groupby(uris, _place):
        place.delete(list(group))


def delete_folder(folder: str) -> None:
    """Remove the files of `folder` and the folder itself, as far as nobody else put something into it."""
    _place(folder).delete_folder(folder)


def sweep_unfinished(uri: str) -> None:
    """Remove what unfinished writes to `uri` left; one still in progress is tried again on a disk, and
    fails on S3."""
    _place(uri).sweep_unfinished(uri)


def check_writable(uri: str, key: str) -> None:
    """Try in the folder `uri` all that a job does there, and remove what that wrote.

    Raises `DependencyError` naming setting `key`, also when an S3 server ignores If-None-Match.
    """
    with naming(key):
        _place(uri).check_writable(join(uri, f"_probe-{uuid4().hex}"))


def absolute(uri: str) -> str:
    """`uri` as every process can use it, whatever folder it runs in."""
    return _place(uri).absolute(uri)


def resolved(uri: str) -> str:
    """`uri` as every process can use it, with the links on its way resolved; a glob's wildcards stay as they are."""
    return _place(uri).resolved(uri)


def local_path(uri: str) -> Path | None:
    """Where a file or folder is on this machine's disks; None when it is on S3."""
    return None if uri.startswith(_S3) else to_path(uri)


def join(folder: str, *names: str) -> str:
    """Uri of `names` inside `folder`.

    >>> join("a/", "b", "c.parquet")
    'a/b/c.parquet'
    """
    return "/".join([folder.rstrip("/"), *names])


def _place(uri: str) -> _Place:
    if uri.startswith(_S3):
        from ragjob.storage import s3  # imports boto3, which a job on local files does without

        return s3
    if "://" in uri and not uri.startswith("file://"):
        raise SettingsError(f"{uri}: only local paths and {_S3} are supported; name one of those")
    return local


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Put setting `key` before the message of an error in the block."""
    try:
        yield
    except RagjobError as error:
        raise type(error)(f"{key}: {error}") from error.__cause__
