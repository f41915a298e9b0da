"""JSONL files: a JSON object a line."""

import json
from typing import Any, BinaryIO

import pyarrow as pa

from ragjob.documents.readers.base import TableReader, marked

MAX_NESTING = 20  # of lists and objects in a column; Arrow's streams end at 64


class JSONLines(TableReader):
    """JSON objects in UTF-8, a line each. A line that isn't one is a row with a fault; blank lines are none."""

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        numbers: list[int] = []
        objects: list[dict[str, Any]] = []
        faults: list[str | None] = []
        for number, line in enumerate(file.read().split(b"\n")):
            if line.strip():
                value, fault = _object(line)
                numbers.append(number)
                objects.append(value)
                faults.append(fault)
        names = dict.fromkeys(name for value in objects for name in value)
        rows = pa.table({name: _column([value.get(name) for value in objects]) for name in names})
        return marked(rows, numbers, faults)


def _object(line: bytes) -> tuple[dict[str, Any], str | None]:
    """The object on a line and its fault: one of the two is empty."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except UnicodeDecodeError as error:
        return {}, f"line isn't UTF-8: byte {error.start} is wrong"
    except (ValueError, RecursionError) as error:
        return {}, f"line isn't JSON: {error}"
    return (value, None) if isinstance(value, dict) else ({}, "line isn't a JSON object")


def _column(values: list[Any]) -> pa.Array:
    try:
        column = pa.array(values)
        if _storable(column.type, MAX_NESTING):
            return column
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    # Values of several types, or of one that can't be stored, are kept as JSON.
    return pa.array([value if isinstance(value, str | None) else json.dumps(value) for value in values])


def _storable(kind: pa.DataType, levels: int) -> bool:
    """Tell whether Parquet and Arrow's streams take this type: no object without keys, no deep nesting."""
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    empty = pa.types.is_struct(kind) and not inner
    return levels > 0 and not empty and all(_storable(child, levels - 1) for child in inner)
