"""Files on disks that all processes of a job see."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from ragjob.errors import DependencyError
from ragjob.storage import local_inputs
from ragjob.storage.local_inputs import open_listed, tag_of
from ragjob.storage.local_paths import to_path, to_text, to_uri
from ragjob.storage.names import Entry, Refuse, Skipped, Unfinished, missing

MAKE_ATTEMPTS = 20
_STAGED = re.compile(r"_(.+)\.[^.]+\.tmp")  # _<name of the file to be>.<random>.tmp


def find(uri: str, refuse: Refuse) -> tuple[list[Entry], list[Skipped]]:
    with _errors(uri):
        return local_inputs.find(to_path(uri), refuse)


def list_files(folder: str) -> list[Entry]:
    with _errors(folder):
        return _entries(to_path(folder), _below(to_path(folder)))


def list_names(folder: str) -> list[str]:
    with _errors(folder), suppress(FileNotFoundError, NotADirectoryError):
        return [entry.name for entry in os.scandir(to_path(folder)) if entry.is_file()]
    return []


def list_unfinished(folder: str) -> list[Unfinished]:
    begun = [(entry, _STAGED.fullmatch(Path(entry.uri).name)) for entry in list_files(folder)]
    return [Unfinished(str(Path(entry.uri).with_name(staged[1])), entry.modified) for entry, staged in begun if staged]


def exists(uri: str) -> bool:
    with _errors(uri):
        return to_path(uri).is_file()


def open_input(uri: str, tag: str | None) -> BinaryIO:
    with _errors(uri):
        path = to_path(uri)
        return path.open("rb") if tag is None else os.fdopen(open_listed(path, uri, tag), "rb")


class SweptError(DependencyError):
    """The temporary file of a write was removed before it had its name."""


# What sweeps may take the temporary files of others that go on.
_put_again = retry(retry=retry_if_exception_type(SweptError), stop=stop_after_attempt(3), reraise=True)


@_put_again
def put(uri: str, content: bytes) -> None:
    with _errors(uri, writing=True):
        path = to_path(uri)
        staged = _stage(path, lambda file: file.write(content))
        try:
            staged.replace(path)
        except FileNotFoundError as error:
            raise _swept(uri) from error


def put_if_absent(uri: str, content: bytes) -> bool:
    return publish(uri, lambda file: file.write(content))


@_put_again
def publish(uri: str, write: Callable[[BinaryIO], object]) -> bool:
    with _errors(uri, writing=True):
        path = to_path(uri)
        if path.exists():
            return False
        staged = _stage(path, write)
        try:
            os.link(staged, path)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            if path.exists():  # who published it has swept ours
                return False
            raise _swept(uri) from error
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise DependencyError(
                    f"{uri}: its file system doesn't support hard links; use one that does, or S3"
                ) from error
            raise
        finally:
            staged.unlink(missing_ok=True)
        return True


def delete(uris: list[str]) -> None:
    for uri in uris:
        with _errors(uri):
            to_path(uri).unlink(missing_ok=True)


def delete_folder(folder: str) -> None:
    path = to_path(folder)
    delete([str(path / name) for name in list_names(folder)])
    for emptied in (path, path.parent):
        with suppress(OSError):
            emptied.rmdir()


def sweep_unfinished(uri: str) -> None:
    path = to_path(uri)
    names = list_names(str(path.parent))
    delete([str(path.with_name(name)) for name in names if name.startswith(f"_{path.name}.")])


def check_writable(probe: str) -> None:
    put_if_absent(probe, b"")
    delete([probe])


def absolute(uri: str) -> str:
    return to_uri(to_path(uri))


def resolved(uri: str) -> str:
    return to_uri(os.path.realpath(to_path(uri)))


def _below(folder: Path) -> Iterator[Path]:
    """Paths of what isn't a folder, at any depth. Folders removed meanwhile held nothing."""
    return (Path(root, name) for root, _, names in os.walk(folder) for name in names)


def _entries(base: Path, paths: Iterable[Path]) -> list[Entry]:
    """The files among `paths`; one that is removed meanwhile was never there."""
    entries = []
    for path in paths:
        with suppress(FileNotFoundError):
            if path.is_file():
                status = path.stat()
                name, uri = to_text(path.relative_to(base).as_posix()), to_uri(path)
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                entries.append(Entry(uri, name, status.st_size, tag_of(status), modified, uri))
    return entries


def _stage(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file beside `path` under a name that readers pass over, and see it onto the disk."""
    handle, staged = _make(path)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(handle)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


# Others may remove the folder meanwhile; mkdir says FileExistsError of one that went as it looked at it.
@retry(
    retry=retry_if_exception_type((FileNotFoundError, FileExistsError)),
    stop=stop_after_attempt(MAKE_ATTEMPTS),
    reraise=True,
)
def _make(path: Path) -> tuple[int, Path]:
    """A temporary file beside `path`, with the rights that the umask leaves it, in a folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"_{path.name}.{uuid4().hex[:8]}.tmp")
    return os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), staged


def _swept(uri: str) -> SweptError:
    return SweptError(f"{uri}: another process removed it while it was being written; run the job again")


class _errors:  # noqa: N801 - reads as a verb phrase: with _errors(uri)
    """Turn an `OSError` on `uri` into an error of ours."""

    def __init__(self, uri: str, *, writing: bool = False) -> None:
        self._uri = uri
        self._writing = writing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A path through a file, too, leads to nothing.
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not self._writing:
            raise missing(self._uri) from error
        if isinstance(error, OSError):
            remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its permissions"
            raise DependencyError(f"{self._uri}: {error.strerror or error}; {remedy}") from error
