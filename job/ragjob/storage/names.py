"""What a listing gives, and which names in it a folder or a glob stands for: alike for disks and buckets."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ragjob.errors import DataError, SettingsError, printable

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Entry:
    """A file: its uri, its path inside what was listed, its size in bytes and a tag that changes with it.

    `modified` is when it was written, in UTC, by the storage's clock. `listed_uri` is what users know the file
    by. On a disk it may go through links, while `uri` is the file itself.
    """

    uri: str
    path: str
    size: int
    tag: str
    modified: datetime
    listed_uri: str


# Says why the file at a path inside an input isn't read; None for one that is.
Refuse = Callable[[str], str | None]

HIDDEN = "name begins with . or _"
SHOWN_PATHS = 3  # of the files that are passed over for one reason


@dataclass(frozen=True)
class Skipped:
    """A file, or a link, that is passed over: its path inside the input, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class PassedOver:
    """Files of an input that aren't read: those with one extension, for one reason.

    Attributes:
        setting: the input, `corpus.uri` or `prompts.uri`.
        reason: why they aren't read.
        extension: how their names end, in lower case, such as `.png`; empty if there is no extension.
        count: number of files.
        first: the first of their paths inside the input, at most three.
    """

    setting: str
    reason: str
    extension: str
    count: int
    first: list[str]

    def __str__(self) -> str:
        files = f"{self.count:,} {'file' if self.count == 1 else 'files'} ({self.extension or 'no extension'})"
        more = ["..."] * (self.count > len(self.first))
        return printable(f"passed over {files}, {self.reason}: {', '.join([*self.first, *more])}")


@dataclass(frozen=True)
class Listing:
    """What an input stands for: the files to read, ordered by path, and those that are passed over."""

    entries: list[Entry]
    passed_over: list[PassedOver]


@dataclass(frozen=True)
class Unfinished:
    """A write that was begun and not ended: the uri that it was for, and when it began."""

    uri: str
    started: datetime


class MissingError(DataError):
    """There is no such file."""


def count_passed_over(setting: str, skipped: list[Skipped]) -> list[PassedOver]:
    """Count what is passed over of the input `setting` by reason and extension."""
    paths: dict[tuple[str, str], list[str]] = {}
    for file in skipped:
        paths.setdefault((file.reason, PurePosixPath(file.path).suffix.lower()), []).append(file.path)
    return [
        PassedOver(setting, reason, extension, len(names), sorted(names)[:SHOWN_PATHS])
        for (reason, extension), names in sorted(paths.items())
    ]


def missing(uri: str) -> MissingError:
    return MissingError(f"{uri}: no such file; check its address, or create it")


def changed(uri: str) -> DataError:
    return DataError(f"{uri}: was changed while the job was running; leave inputs alone and run the job again")


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an address on S3. Raises `SettingsError` when no bucket is named.

    >>> split("s3://bucket/folder/key")
    ('bucket', 'folder/key')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise SettingsError(f"{uri}: names no bucket; write s3://BUCKET/FOLDER")
    return bucket, key


def has_wildcards(text: str) -> bool:
    return bool(_WILDCARD.search(text))


def has_stray_stars(pattern: str) -> bool:
    """Return whether a `**` is next to other characters: it must be alone between slashes."""
    return any("**" in part and part != "**" for part in pattern.split("/"))


def before_wildcard(text: str) -> str:
    return _WILDCARD.split(text, maxsplit=1)[0]


def is_shown(path: str) -> bool:
    """Return whether no part of `path` begins with `.` or `_`."""
    return not any(part.startswith((".", "_")) for part in path.split("/"))


def split_glob(path: str) -> tuple[str, str]:
    """The folders of `path` before its first wildcard, and the pattern that follows.

    Raises `SettingsError` for a `**` beside other characters.

    >>> split_glob("books/2*/**")
    ('books', '2*/**')
    """
    parts = path.split("/")
    first = next(at for at, part in enumerate(parts) if has_wildcards(part))
    if has_stray_stars(path):
        raise SettingsError(f"{path}: ** must stand alone between slashes, as in **/*.txt")
    return "/".join(parts[:first]), "/".join(parts[first:])


def matches(path: str, pattern: str) -> bool:
    """Return whether a glob matches the file at `path`: `**` is any folders, and at the end all files below.

    >>> matches("a/b/c.txt", "**/*.txt"), matches("a/b/c.txt", "*.txt")
    (True, False)
    """
    return _match(path.split("/"), pattern.split("/"))


def leads_to(folder: str, pattern: str) -> bool:
    """Return whether a glob may match paths inside `folder`.

    >>> leads_to("a/b", "a/*/c.txt"), leads_to("a/b", "a/*.txt")
    (True, False)
    """
    return _lead(folder.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns or not parts:
        return not parts and not patterns
    if patterns == ["**"]:  # all files below
        return True
    if patterns[0] == "**":
        return _match(parts, patterns[1:]) or _match(parts[1:], patterns)
    return fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])


def _lead(parts: list[str], patterns: list[str]) -> bool:
    if not parts or not patterns or patterns[0] == "**":
        return bool(patterns)
    return fnmatchcase(parts[0], patterns[0]) and _lead(parts[1:], patterns[1:])
