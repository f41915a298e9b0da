"""Files and folders by uri: read, list, put whole, put if absent. Local paths only so far."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from job.errors import DataError, DependencyError, SettingsError

_WILDCARDS = "*?["


@dataclass(frozen=True)
class Entry:
    """A file: its uri, its path inside what was listed, its size in bytes and a tag that changes with it."""

    uri: str
    path: str
    size: int
    tag: str


def list_inputs(uri: str, suffixes: tuple[str, ...], key: str) -> list[Entry]:
    """List the files that `uri` (file, folder or glob) stands for, ordered by path inside it.

    Files in a folder that end otherwise than `suffixes`, or whose path has a part that begins with `.` or
    `_`, are passed over. Raises `DataError` naming setting `key` when there are none.
    """
    with _errors(uri):
        base, names = _matches(_local(uri))
    entries = [_entry(base, name) for name in sorted(names) if name.endswith(suffixes)]
    if not entries:
        found = "nothing there" if not names else "nothing that ends in " + ", ".join(suffixes)
        raise DataError(f"{key}: {uri}: {found}; name an existing file, folder or glob")
    return entries


def list_names(folder: str) -> list[str]:
    """Names of the files right in `folder`, sorted; none when there is no such folder."""
    with _errors(folder):
        path = _local(folder)
        return sorted(entry.name for entry in os.scandir(path) if entry.is_file()) if path.is_dir() else []


def exists(uri: str) -> bool:
    """Tell whether there is a file at `uri`."""
    with _errors(uri):
        return _local(uri).is_file()


def open_input(uri: str) -> BinaryIO:
    """Open a file for reading, with seek. Raises `DataError` when it isn't there."""
    with _errors(uri):
        return _local(uri).open("rb")


def read_bytes(uri: str) -> bytes:
    """Read a whole file."""
    with open_input(uri) as file:
        return file.read()


def put(uri: str, content: bytes) -> None:
    """Write a file whole: readers see the old one or the new one."""
    with _errors(uri, writing=True):
        path = _local(uri)
        staged = _stage(path, lambda file: file.write(content))
        staged.replace(path)


def put_if_absent(uri: str, content: bytes) -> bool:
    """Write a file whole unless there is one; tell whether this call did."""
    return publish(uri, lambda file: file.write(content))


def publish(uri: str, write: Callable[[BinaryIO], object]) -> bool:
    """Let `write` fill a file that appears at `uri` only when whole, and only if there is none by then."""
    with _errors(uri, writing=True):
        path = _local(uri)
        if path.exists():
            return False
        staged = _stage(path, write)
        try:
            os.link(staged, path)
        except FileExistsError:
            return False
        finally:
            staged.unlink()
        return True


def delete(uris: Iterable[str]) -> None:
    """Remove files; those that are gone already are fine."""
    for uri in uris:
        with _errors(uri):
            _local(uri).unlink(missing_ok=True)


def delete_folder(folder: str) -> None:
    """Remove the files of `folder` and the folder itself, as far as nobody else put something into it."""
    delete(join(folder, name) for name in list_names(folder))
    for path in (_local(folder), _local(folder).parent):
        with suppress(OSError):
            path.rmdir()


def check_writable(uri: str, key: str) -> None:
    """Write and remove a file under folder `uri`. Raises `DependencyError` naming setting `key`."""
    probe = join(uri, f"_probe-{os.getpid()}")
    try:
        put(probe, b"")
    except DependencyError as error:
        raise DependencyError(f"{key}: {error}") from error
    delete([probe])


def absolute(uri: str) -> str:
    """`uri` as every process can use it, whatever folder it runs in."""
    return str(_local(uri))


def join(folder: str, *names: str) -> str:
    """Uri of `names` inside `folder`.

    >>> join("a/", "b", "c.parquet")
    'a/b/c.parquet'
    """
    return "/".join([folder.rstrip("/"), *names])


def _local(uri: str) -> Path:
    if "://" in uri and not uri.startswith("file://"):
        raise SettingsError(f"{uri}: only local paths are supported so far")
    return Path(uri.removeprefix("file://")).expanduser().absolute()


def _matches(path: Path) -> tuple[Path, list[str]]:
    """The part of `path` without wildcards, and the files below it that `path` stands for."""
    if any(mark in str(path) for mark in _WILDCARDS) and not path.exists():
        fixed = _before_wildcard(path.parts)
        base = Path(*fixed)
        pattern = str(Path(*path.parts[len(fixed) :]))
        return base, _shown(base, base.glob(pattern))
    if path.is_file():
        return path.parent, [path.name]
    return path, _shown(path, path.rglob("*"))


def _shown(base: Path, found: Iterable[Path]) -> list[str]:
    """Paths inside `base` of the files that aren't hidden."""
    inside = [path.relative_to(base) for path in found if path.is_file()]
    return [str(path) for path in inside if not any(part[0] in "._" for part in path.parts)]


def _before_wildcard(parts: tuple[str, ...]) -> list[str]:
    fixed: list[str] = []
    for part in parts:
        if any(mark in part for mark in _WILDCARDS):
            break
        fixed.append(part)
    return fixed


def _entry(base: Path, name: str) -> Entry:
    with _errors(str(base / name)):
        status = (base / name).stat()
    return Entry(str(base / name), Path(name).as_posix(), status.st_size, str(status.st_mtime_ns))


def _stage(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file beside `path` under a name that readers pass over, and see it onto the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"_{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(handle)
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


class _errors:  # noqa: N801 - reads as a verb phrase: with _errors(uri)
    """Turn an `OSError` on `uri` into an error of ours."""

    def __init__(self, uri: str, *, writing: bool = False) -> None:
        self._uri = uri
        self._writing = writing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError) and not self._writing:
            raise DataError(f"{self._uri}: no such file") from error
        if isinstance(error, OSError):
            remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its rights"
            raise DependencyError(f"{self._uri}: {error.strerror or error}; {remedy}") from error
