"""JSON files: objects, one per line, one after another, or in arrays."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, BinaryIO

import pyarrow as pa

from ragjob.documents.readers.base import TableReader, Unreadable, check_width, marked
from ragjob.documents.readers.content import FREE_BYTES, split_lines, table_bytes
from ragjob.documents.tables import json_text, leaves

MAX_NESTING = 20  # of lists and objects in a column; Arrow's streams end at 64
MAX_EMPTY_CELLS = FREE_BYTES // 8  # where a key is missing; a cell without a value takes 8 bytes, too
ROWS_AT_ONCE = 1000  # are objects in memory, before they become columns

_SPACE = re.compile(r"[ \t\r\n]*")

Row = tuple[int, dict[str, Any], str | None]  # its number, the object and its fault: one of the two is empty


class JSONLines(TableReader):
    """JSON objects in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Each line is an object; a line that isn't one is a row with a fault, and blank lines are skipped. A file whose first
    line isn't an object may be one object or several, or arrays of them, on any number of lines.
    """

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        content = table_bytes(file.read())
        table, rows = _Rows(len(content), columns), _rows(content)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            table.add(batch)
        return table.to_arrow()


@dataclass
class _Rows:
    """Rows as columns: objects take many times the memory. `size` is that of the file, in bytes."""

    size: int
    wanted: tuple[str, ...] | None
    numbers: list[int] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    cells: int = 0  # that have a value

    def add(self, batch: list[Row]) -> None:
        """Append rows. Raises `Unreadable` when they have too many distinct keys."""
        before, objects = len(self.numbers), [value for _, value, _ in batch]
        self.numbers += [number for number, _, _ in batch]
        self.faults += [fault for _, _, fault in batch]
        self.cells += sum(map(len, objects))
        for name in dict.fromkeys(name for value in objects for name in value):
            if name not in self.columns and (self.wanted is None or name in self.wanted):
                self._check_keys(len(self.columns) + 1)
                self.columns[name] = [None] * before
        self._check_keys(len(self.columns))
        for name, values in self.columns.items():
            values += [value.get(name) for value in objects]

    def _check_keys(self, keys: int) -> None:
        check_width(keys)
        if keys * len(self.numbers) - self.cells > max(MAX_EMPTY_CELLS, self.size):
            raise Unreadable(f"objects have {keys:,} distinct keys, and most have few of these; leave out rare keys")

    def to_arrow(self) -> pa.Table:
        columns = {name: _column(values, self.size) for name, values in self.columns.items()}
        return marked(pa.table(columns), self.numbers, self.faults)


def _rows(content: bytes) -> Iterator[Row]:
    """The objects of a file. Raises `Unreadable` if it has none, but something else."""
    lines = ((number, line) for number, line in enumerate(split_lines(content)) if line.strip())
    first = [_row(number, line) for number, line in islice(lines, 1)]
    if not any(fault for _, _, fault in first):
        yield from first
        yield from (_row(number, line) for number, line in lines)
        return
    try:
        rows, reason = list(_values(content)), ""
    except (ValueError, RecursionError) as error:
        rows, reason = first + [_row(number, line) for number, line in lines], f"; as a whole it isn't JSON: {error}"
    if rows and all(fault for _, _, fault in rows):
        number, _, fault = first[0]
        what = str(fault).removeprefix("line ")
        raise Unreadable(f"no JSON object in the file: line {number + 1} {what}{reason}; write an object on each line")
    yield from rows


def _row(number: int, line: bytes) -> Row:
    try:
        return _checked(number, json.loads(line.decode("utf-8-sig")), "line", escaped=b"\\u" in line)
    except UnicodeDecodeError as error:
        return number, {}, f"line isn't UTF-8: byte {error.start} is wrong"
    except (ValueError, RecursionError) as error:
        return number, {}, f"line isn't JSON: {error}"


def _values(content: bytes) -> Iterator[Row]:
    """The values that follow one another in a file, and those in its arrays. Raises what `json` raises."""
    text, decoder, numbers = content.decode(), json.JSONDecoder(), count()
    escaped, at = "\\u" in text, 0
    while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # it matches anything
        value, at = decoder.raw_decode(text, at)
        for element in value if isinstance(value, list) else [value]:
            yield _checked(next(numbers), element, "value", escaped=escaped)


def _checked(number: int, value: Any, what: str, *, escaped: bool) -> Row:
    """A row, with a fault unless `value` is an object of text that can be written."""
    if not isinstance(value, dict):
        return number, {}, f"{what} isn't a JSON object"
    if escaped:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            return number, {}, f"{what} isn't JSON: {error}"
    return number, value, None


def _column(values: list[Any], size: int) -> pa.Array:
    try:
        kind = pa.infer_type(values)
        if _is_storable(kind, MAX_NESTING) and len(leaves(kind)) * len(values) <= max(MAX_EMPTY_CELLS, size):
            return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    # Values of several types, or of one that can't be stored, are kept as JSON.
    return pa.array([value if isinstance(value, str | None) else json_text(value) for value in values], pa.string())


def _is_storable(kind: pa.DataType, levels: int) -> bool:
    """Return whether Parquet and Arrow's streams take this type: no object without keys, no deep nesting."""
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    empty = pa.types.is_struct(kind) and not inner
    return levels > 0 and not empty and all(_is_storable(child, levels - 1) for child in inner)
