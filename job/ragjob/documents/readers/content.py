"""What is done to a file's bytes before a format reads them: gzip is unpacked, UTF-16 and UTF-32 become UTF-8."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterable

from ragjob.documents.readers.document import Decoded, Unreadable

GZIP_MAGIC = b"\x1f\x8b"
# What a file may unpack to: so many bytes, whatever its size, and above that so many times its size, up to a limit.
FREE_BYTES = 32 * 2**20
MAX_RATIO = 100  # text seldom exceeds 30
MAX_UNPACKED_BYTES = 256 * 2**20

# Longest first: the mark of UTF-16 is how that of UTF-32 begins.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    codecs.BOM_UTF8: "UTF-8",
}
MAX_NULS = 0.05  # of a text; in UTF-16 a NUL is at least each space
# In scripts without spaces half of UTF-16 are other control characters: not among them are those that text files hold.
_CONTROLS = bytes(code for code in range(32) if code not in b"\b\t\n\v\f\r\x1a\x1b")
MAX_CONTROLS = 0.2  # of the beginning of a text
HEAD_BYTES = 4096
_LONE_CR = re.compile(rb"\r(?!\n)")
_LINE_END = re.compile(rb"\r\n?|\n")


def as_utf8(content: bytes) -> bytes:
    """The content of a text file, unpacked, in UTF-8 without a byte order mark. Bytes that aren't UTF-8 stay.

    Raises `Unreadable` when it can't be unpacked, or isn't what its byte order mark says.
    """
    content = _unpack(content)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding == "UTF-8":
        return content.removeprefix(codecs.BOM_UTF8)
    if encoding is None:
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"file isn't {encoding}: byte {error.start} is wrong; save it as UTF-8") from error


def table_bytes(content: bytes) -> bytes:
    """The content of a text file with rows, as `as_utf8` gives it. Raises `Unreadable` also if it isn't text."""
    content = as_utf8(content)
    if fault := _fault(content, "file"):
        raise Unreadable(fault)
    return content


def decode_utf8(content: bytes, what: str) -> Decoded:
    """Decode UTF-8, without a byte order mark. Wrong bytes become U+FFFD and an error that calls the text `what`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"{what} isn't UTF-8: byte {error.start} is wrong; save it as UTF-8"
        return Decoded(content.decode("utf-8", "replace"), wrong)
    fault = _fault(content, what)
    return Decoded(None if fault else text, fault)


def decode_text(content: bytes) -> Decoded:
    """The text of a file that is one document, as it stands; CR alone becomes LF."""
    try:
        content = as_utf8(content)
    except Unreadable as error:
        return Decoded(None, str(error))
    return decode_utf8(_LONE_CR.sub(b"\n", content) if b"\r" in content else content, "file")


def split_lines(content: bytes) -> Iterable[bytes]:
    """The lines of a text without their ends, which are LF, CR LF or CR."""
    return _LINE_END.split(content) if b"\r" in content else content.split(b"\n")


def check_unpacked(size: int, packed: int) -> None:
    """Raise `Unreadable` if `packed` bytes of a file unpack to `size`, and that is more than ordinary data does."""
    if size > max(FREE_BYTES, MAX_RATIO * packed):
        raise Unreadable(
            f"{packed:,} bytes unpack to more than {MAX_RATIO} times their size; leave the file out, or unpack it"
        )


def _fault(content: bytes, what: str) -> str | None:
    head = content[:HEAD_BYTES]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if content.count(0) <= MAX_NULS * len(content) and controls <= MAX_CONTROLS * len(head):
        return None
    return f"{what} is full of NUL or control characters, as UTF-16 without a byte order mark is; save it as UTF-8"


def _unpack(content: bytes) -> bytes:
    """Unpack gzip, whatever the file is called."""
    if not content.startswith(GZIP_MAGIC):
        return content
    most = min(MAX_UNPACKED_BYTES, max(FREE_BYTES, MAX_RATIO * len(content)))
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"gzip data is damaged: {error}; compress the file again") from error
    check_unpacked(len(unpacked), len(content))
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise Unreadable(f"file unpacks to more than {MAX_UNPACKED_BYTES / 2**20:.0f} MiB; split it, or unpack it")
    return unpacked
