"""CSV files as in RFC 4180: a header, then one row per line; a field in quotes may hold line breaks."""

import io
import re
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from ragjob.documents.readers.base import TableReader, Unreadable, check_width, numbered
from ragjob.documents.readers.content import split_lines, table_bytes

_QUOTED = rb'"(?:[^"]++|"")*+"'
_ENDS = rb",\r\n"  # the bytes that stand before and after a field
# All up to the first quote that doesn't open a field, or isn't closed right before the field's end.
_RIGHT = re.compile(rb'(?:[^"]*+(?<![^%b])%b(?![^%b]))*+[^"]*+' % (_ENDS, _QUOTED, _ENDS))
_CLOSED = re.compile(_QUOTED)
_HEADER = re.compile(rb'[\r\n]*+(?:%b|[^"\r\n]++)*+' % _QUOTED)


class CSV(TableReader):
    """CSV with commas, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark. All values are text."""

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        content = table_bytes(file.read())
        if not content.strip():
            return numbered(pa.table({}))
        _check_quotes(content)
        header = _HEADER.match(content)[0] + b"\n"  # type: ignore[index]  # it matches anything
        check_width(header.count(b",") + 1)
        content = content if len(content) >= len(header) else header
        if columns is None:
            return numbered(_read(content, []))
        names = _read(header, []).column_names
        wanted = [name for name in columns if name in names]
        return numbered(_read(content, wanted or names[:1]).select(wanted))


def _read(content: bytes, columns: list[str]) -> pa.Table:
    """The rows, with all columns unless some are named."""
    # In one thread, where Arrow tells the number of a row that it refuses.
    read = pyarrow.csv.ReadOptions(block_size=min(len(content) + 1, 2**31 - 1), use_threads=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # Text as it stands: of ids that look like numbers, 001 and 1 are two.
    convert = pyarrow.csv.ConvertOptions(check_utf8=False, default_column_type=pa.string(), include_columns=columns)
    return pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert)


def _check_quotes(content: bytes) -> None:
    """Raise `Unreadable` at a quote that RFC 4180 doesn't allow: Arrow would read on, into the rows that follow."""
    end = _RIGHT.match(content).end()  # type: ignore[union-attr]  # it matches anything
    if end == len(content):
        return
    line = len(list(split_lines(content[:end])))
    closed = _CLOSED.match(content, end)
    if end and content[end - 1] not in _ENDS:
        raise Unreadable(
            f"line {line}: a field that isn't in quotes contains a quote; put it in quotes, and double the quote inside"
        )
    if closed is None:
        raise Unreadable(f"line {line}: a quote is opened but never closed; close it")
    last = len(list(split_lines(content[: closed.end()])))
    raise Unreadable(
        f"line {line}: a field in quotes goes on after its closing quote, in line {last}; double the quotes inside it"
    )
