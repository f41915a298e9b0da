"""One object as a file: read by ranges, each of them tried again when it is cut short."""

import io
import re
from dataclasses import dataclass
from typing import Any

from ragjob.storage.names import changed
from ragjob.storage.s3_client import attempt, where
from ragjob.storage.s3_errors import ConditionFailedError, RangeError

TAIL_BYTES = 2**20  # read first: a small object whole, or a Parquet file's footer
READ_AHEAD_BYTES = 4 * 2**20
RANGE_BYTES = 16 * 2**20  # of one request, at most


@dataclass(frozen=True)
class _Piece:
    """Bytes of an object from `start`, with the size and tag of the whole of it."""

    content: bytes
    start: int
    size: int
    tag: str


class ObjectFile(io.RawIOBase):
    """Seekable and unbuffered. Its reads raise `DataError` if the object is no longer the one that was opened."""

    def __init__(self, uri: str, tag: str | None) -> None:
        self._uri = uri
        self._tail = _fetch(uri, f"bytes=-{TAIL_BYTES}", f'"{tag}"' if tag else None)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._tail.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        pieces = []
        while piece := self._next(RANGE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def _next(self, most: int) -> bytes:
        tail = self._tail
        last = min(self._at + min(most, RANGE_BYTES), tail.size)
        if self._at >= tail.start:
            content = tail.content[self._at - tail.start : last - tail.start]
        else:
            wanted = f"bytes={self._at}-{min(last, tail.start) - 1}"
            content = _fetch(self._uri, wanted, tail.tag).content
        self._at += len(content)
        return content


def _fetch(uri: str, wanted: str, tag: str | None) -> _Piece:
    condition = {"IfMatch": tag} if tag else {}

    def get(client: Any) -> tuple[Any, bytes]:
        answer = client.get_object(**where(uri), Range=wanted, **condition)
        return answer, answer["Body"].read()

    try:
        answer, content = attempt(uri, get)
    except RangeError:  # what AWS says to any range of an empty object
        return _Piece(b"", 0, 0, "")
    except ConditionFailedError:
        raise changed(uri) from None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.get("ContentRange", ""))
    start, size = (int(match[1]), int(match[2])) if match else (0, len(content))
    return _Piece(content, start, size, answer["ETag"])
