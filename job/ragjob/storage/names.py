"""What a listing gives, and which names in it a folder or a glob stands for: alike for disks and buckets."""

import re
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from ragjob.errors import DataError, SettingsError

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Entry:
    """A file: its uri, its path inside what was listed, its size in bytes and a tag that changes with it.

    `modified` is when it was written, in UTC, by the clock of who keeps it.
    """

    uri: str
    path: str
    size: int
    tag: str
    modified: datetime


@dataclass(frozen=True)
class Unfinished:
    """A write that was begun and not ended: the uri that it was for, and when it began."""

    uri: str
    started: datetime


class MissingError(DataError):
    """There is no such file."""


def missing(uri: str) -> MissingError:
    return MissingError(f"{uri}: no such file; check its address, or put it there")


def changed(uri: str) -> DataError:
    return DataError(f"{uri}: was changed since the job began; leave inputs as they are, and run it again")


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


def before_wildcard(text: str) -> str:
    return _WILDCARD.split(text, maxsplit=1)[0]


def is_shown(path: str) -> bool:
    """Tell whether no part of `path` begins with `.` or `_`."""
    return not any(part.startswith((".", "_")) for part in path.split("/"))


def split_glob(path: str) -> tuple[str, str]:
    """The folders of `path` before its first wildcard, and the pattern that follows.

    Raises `SettingsError` for a `**` beside other characters.

    >>> split_glob("books/2*/**")
    ('books', '2*/**/*')
    """
    parts = path.split("/")
    first = next(at for at, part in enumerate(parts) if has_wildcards(part))
    if any("**" in part and part != "**" for part in parts):
        raise SettingsError(f"{path}: ** stands for folders, alone between slashes; write **/*.txt, say")
    if parts[-1] == "**":
        parts.append("*")  # all files below, not the folders alone
    return "/".join(parts[:first]), "/".join(parts[first:])


def matches(path: str, pattern: str) -> bool:
    """Tell whether a glob takes `path`, as `pathlib.Path.glob` does.

    >>> matches("a/b/c.txt", "**/*.txt"), matches("a/b/c.txt", "*.txt")
    (True, False)
    """
    return _match(path.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns or not parts:
        return not parts and not patterns
    if patterns[0] == "**":
        return _match(parts, patterns[1:]) or _match(parts[1:], patterns)
    return fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])
