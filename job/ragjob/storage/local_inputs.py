"""Inputs on disks: which files a folder or a glob stands for, and how they are opened.

Links are resolved while files are listed, and never followed when they are opened: nobody who may write into an input
can have the job read a file outside it.
"""

import errno
import os
import stat
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePosixPath

from ragjob.errors import DependencyError, printable
from ragjob.storage.local_paths import to_text, to_uri
from ragjob.storage.names import (
    HIDDEN,
    Entry,
    Refuse,
    Skipped,
    changed,
    has_wildcards,
    is_shown,
    leads_to,
    matches,
    split_glob,
)

OUTSIDE = "link that leaves the folder"
BROKEN = "link that leads nowhere"
AGAIN = "link to something listed under another name"
SPECIAL = "not a regular file"

_KERNELS = ("/proc", "/sys")  # their files tell of processes and the machine
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = getattr(os, "O_PATH", 0) | _OPEN | os.O_DIRECTORY
_OPEN_FILE = _OPEN | os.O_NONBLOCK  # a FIFO is opened without waiting for a writer
_REPLACED = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}  # what opening a link, below a link, or a socket ends with


def find(path: Path, refuse: Refuse) -> tuple[list[Entry], list[Skipped]]:
    """What an absolute path (file, folder or glob) stands for: the files to read, and what is passed over.

    Raises `DependencyError` for a folder that can't be listed.
    """
    if path.exists() and not path.is_dir():
        walk = _Walk(path.parent, None, refuse)
        walk.take(os.path.realpath(path), path.name)
    elif path.exists() or not has_wildcards(str(path)):
        walk = _Walk(path, None, refuse)
        walk.take_all()
    else:
        fixed, pattern = split_glob(str(path))
        walk = _Walk(Path(fixed or "/"), pattern, refuse)
        walk.take_all()
    return list(walk.entries.values()), list(walk.skipped.values())


def open_listed(path: Path, uri: str, tag: str) -> int:
    """Open the file that was listed with `tag`, without following links, and give its descriptor.

    Raises `DataError` if another file, or anything else, has taken its place or that of one of its folders.
    """
    folder = os.open("/", _OPEN_FOLDER)
    try:
        for name in path.parts[1:-1]:
            above, folder = folder, os.open(name, _OPEN_FOLDER, dir_fd=folder)
            os.close(above)
        file = os.open(path.name, _OPEN_FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _REPLACED:
            raise changed(uri) from error
        raise
    finally:
        os.close(folder)
    status = os.fstat(file)
    if not _is_regular(status) or tag_of(status) != tag:
        os.close(file)
        raise changed(uri)
    return file


def tag_of(status: os.stat_result) -> str:
    """A tag that changes with a file."""
    return str(status.st_mtime_ns)


class _Walk:
    """Goes through a folder, and through the links in it. Each link is followed once.

    `entries` are the files to read, by their real paths. `skipped` is what is passed over, by the place of the file
    or of the link. A file that has its own name in the folder is listed by that, else by a link's.
    """

    def __init__(self, base: Path, pattern: str | None, refuse: Refuse) -> None:
        self.entries: dict[str, Entry] = {}
        self.skipped: dict[str, Skipped] = {}
        self._base = base
        self._root = os.path.realpath(base)
        self._pattern = pattern
        self._refuse = refuse
        self._links: deque[tuple[str, str]] = deque()  # where each is, and its path inside the folder
        self._followed: set[str] = set()
        self._to_folders: dict[str, str] = {}

    def take_all(self) -> None:
        """Take all files that are to be read."""
        self._take_folder(self._root, "")
        while self._links:
            place, path = self._links.popleft()
            if place not in self._followed and (self._is_meant(path) or self._leads_on(path)):
                self._followed.add(place)
                self._follow(place, path)
        self._skip_empty_links()

    def take(self, real: str, path: str, link: str | None = None) -> None:
        """Take the file at a real path, unless it isn't to be read; `link` is the place of the link to it, if any."""
        if real in self.entries:
            self._skip(link or real, path, AGAIN)
            return
        with suppress(FileNotFoundError, NotADirectoryError):  # one that is removed meanwhile was never there
            status = os.lstat(real)
            reason = self._refuse(to_text(path)) if _is_regular(status) else SPECIAL
            if reason:
                self._skip(link or real, path, reason)
            elif self._is_meant(path):
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                name, listed_uri = to_text(path), to_uri(self._base / path)
                self.entries[real] = Entry(to_uri(real), name, status.st_size, tag_of(status), modified, listed_uri)
                self.skipped.pop(real, None)

    def _take_folder(self, real: str, path: str) -> None:
        """Take the files below the folder at a real path; its path inside ends in a slash, or is empty."""
        folders = [(real, path)]
        while folders:
            real, path = folders.pop()
            for item in _items(real):
                inside = path + item.name
                if not is_shown(item.name):
                    self._hide(item, inside)
                elif item.is_symlink():
                    self._links.append((item.path, inside))
                elif not item.is_dir():
                    self.take(item.path, inside)
                elif self._leads_on(inside):
                    folders.append((item.path, f"{inside}/"))

    def _follow(self, place: str, path: str) -> None:
        real = os.path.realpath(place)
        if not _is_in(real, self._root):
            self._skip(place, path, OUTSIDE)
        elif not Path(real).exists():
            self._skip(place, path, BROKEN)
        elif not Path(real).is_dir():
            self.take(real, path, place)
        else:
            self._to_folders[place] = path
            if not _is_in(place, real):  # else it is a loop
                self._take_folder(real, f"{path}/")

    def _skip_empty_links(self) -> None:
        """Pass over the links to folders by which no file is listed."""
        if self._to_folders:
            parents = {str(parent) for entry in self.entries.values() for parent in PurePosixPath(entry.path).parents}
            for place, path in self._to_folders.items():
                if to_text(path) not in parents:
                    self._skip(place, path, AGAIN)

    def _hide(self, item: os.DirEntry[str], path: str) -> None:
        """Pass over a hidden name: of a folder, the files below it."""
        if not item.is_dir(follow_symlinks=False):
            self._skip(item.path, path, HIDDEN)
        elif self._leads_on(path):
            for folder, _, names in os.walk(item.path):
                for place in (f"{folder}/{name}" for name in names):
                    self._skip(place, path + place.removeprefix(item.path), HIDDEN)

    def _skip(self, place: str, path: str, reason: str) -> None:
        if self._is_meant(path) and place not in self.entries:
            self.skipped.setdefault(place, Skipped(to_text(path), reason))

    def _is_meant(self, path: str) -> bool:
        return self._pattern is None or matches(path, self._pattern)

    def _leads_on(self, path: str) -> bool:
        return self._pattern is None or leads_to(path, self._pattern)


def _items(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):  # a folder that is removed meanwhile was never there
        return []
    except OSError as error:
        name = printable(to_uri(folder))
        remedy = "let this user list it, or name a folder or glob without it"
        raise DependencyError(f"{name}: {error.strerror}; {remedy}") from error


def _is_in(path: str, folder: str) -> bool:
    """Return whether a path is `folder`, or inside it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_dev not in _kernel_devices()


@cache
def _kernel_devices() -> set[int]:
    return {Path(folder).stat().st_dev for folder in _KERNELS if os.path.ismount(folder)}
