"""Paths of this machine's file systems, and their uris."""

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ragjob.errors import SettingsError

_SCHEME = "file://"


def to_path(uri: str) -> Path:
    """The absolute path that a uri stands for: a path as it is, or a `file://` uri, which is decoded.

    Raises `SettingsError` for one that no path can be made of.

    >>> to_path("file:///a%20b")
    PosixPath('/a b')
    """
    path = os.fsdecode(unquote_to_bytes(uri.removeprefix(_SCHEME))) if uri.startswith(_SCHEME) else uri
    if "\0" in path:
        raise SettingsError(f"{uri!r}: a path can't contain a NUL character; remove it")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # there is no such user, or the user has no home
        raise SettingsError(f"{uri}: ~ can't be expanded here; write the full path") from error


def to_uri(path: str | Path) -> str:
    """The uri of an absolute path: the path itself, or where its bytes aren't UTF-8, a `file://` uri.

    >>> to_uri("/a b"), to_uri("/caf\\udce9")
    ('/a b', 'file:///caf%E9')
    """
    return str(path) if _is_text(str(path)) else _SCHEME + quote_from_bytes(os.fsencode(path))


def to_text(path: str) -> str:
    r"""A relative path as text: bytes that aren't UTF-8 are escaped.

    >>> to_text("caf\udce9")
    'caf\\xe9'
    """
    return path if _is_text(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(path: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in path)
