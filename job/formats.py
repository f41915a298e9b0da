"""Decode Parquet, JSONL, CSV and text files into Arrow tables."""

import io
import json
from collections import Counter
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from job import schema, storage
from job.errors import DataError

TABLES = (".parquet", ".jsonl", ".csv")
# Columns beside the file's own: the row's number in its file, and why the row can't be read, or null.
ROW, FAULT = "_ragjob_row", "_ragjob_fault"
MAX_NESTING = 20  # of lists and objects in a JSONL column; Arrow's streams end at 64


@lru_cache(maxsize=1)  # the next unit is often of the same row group
def segment_rows(uri: str, tag: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    """Decode one segment, with ROW and FAULT; `tag` is that of its `storage.Entry`.

    Raises `DataError` when the file can't be read or has two columns of one name.
    """
    try:
        rows = _rows(uri, tag, group, columns)
        _check_names(uri, rows.column_names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{uri}: can't be read: {' '.join(str(error).split())[:200]}; mend the file") from error
    return rows


def _rows(uri: str, tag: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    if uri.endswith(".parquet"):
        return _parquet_rows(uri, tag, group, columns)
    content = storage.read_bytes(uri, tag)
    if uri.endswith(".csv"):
        return _numbered(_csv_rows(content))
    return _jsonl_rows(content) if uri.endswith(".jsonl") else _line_rows(content)


def _check_names(uri: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{uri}: column {twice[0]!r} stands twice; rename one")


def _parquet_rows(uri: str, tag: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    with storage.open_input(uri, tag) as source:
        file = pq.ParquetFile(source)
        before = sum(file.metadata.row_group(number).num_rows for number in range(group))
        names = columns and [name for name in columns if name in file.schema_arrow.names]
        return _numbered(file.read_row_group(group, columns=names), before)


def _csv_rows(content: bytes) -> pa.Table:
    if not content.strip():
        return pa.table({})
    read = pyarrow.csv.ReadOptions(block_size=min(len(content) + 1, 2**31 - 1))
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # Text as it stands: of ids that look like numbers, 001 and 1 are two.
    convert = pyarrow.csv.ConvertOptions(check_utf8=False, default_column_type=pa.string())
    return pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert)


def _jsonl_rows(content: bytes) -> pa.Table:
    numbers, objects, faults = [], [], []
    for number, line in enumerate(content.split(b"\n")):
        if line.strip():
            value, fault = _json_object(line)
            numbers.append(number)
            objects.append(value)
            faults.append(fault)
    names = dict.fromkeys(name for value in objects for name in value)
    columns = {name: _json_column([value.get(name) for value in objects]) for name in names}
    return _with_marks(pa.table(columns) if names else None, numbers, faults)


def _json_object(line: bytes) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except UnicodeDecodeError as error:
        return {}, f"line isn't UTF-8: byte {error.start} is wrong"
    except (ValueError, RecursionError) as error:
        return {}, f"line isn't JSON: {error}"
    return (value, None) if isinstance(value, dict) else ({}, "line isn't a JSON object")


def _json_column(values: list[Any]) -> pa.Array:
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
    return levels > 0 and not empty and all(_storable(each, levels - 1) for each in inner)


def _line_rows(content: bytes) -> pa.Table:
    lines = [(number, line.rstrip(b"\r")) for number, line in enumerate(content.split(b"\n")) if line.strip()]
    prompts = pa.table({schema.PROMPT: pa.array([line for _, line in lines], pa.binary())})
    return _with_marks(prompts, [number for number, _ in lines], [None] * len(lines))


def _numbered(table: pa.Table, before: int = 0) -> pa.Table:
    return _with_marks(table, range(before, before + table.num_rows), [None] * table.num_rows)


def _with_marks(table: pa.Table | None, numbers: Any, faults: list[str | None]) -> pa.Table:
    marks = {ROW: pa.array(numbers, pa.int64()), FAULT: pa.array(faults, pa.string())}
    if table is None or not table.num_columns:
        return pa.table(marks)
    return table.append_column(ROW, marks[ROW]).append_column(FAULT, marks[FAULT])


def parquet_schema(entry: storage.Entry, key: str) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with storage.open_input(entry.uri, entry.tag) as source:
            file = pq.ParquetFile(source)
            _check_names(f"{key}: {entry.uri}", file.schema_arrow.names)
            return file.metadata, file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{key}: {entry.uri}: not a whole Parquet file; write it again") from error


def as_binary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_binary())


def ids_of(table: pa.Table, column: str | None) -> list[str | None]:
    """The ids in `column` as strings; null where there is none, or no such column."""
    if not column or column not in table.column_names:
        return [None] * table.num_rows
    if not is_text(table[column].type):
        return list(table[column].cast(pa.string()).to_pylist())
    return [value and value.decode("utf-8", "replace") for value in as_binary(table[column]).to_pylist()]


def is_plain(kind: pa.DataType) -> bool:
    """Tell whether values of this type can be written as text."""
    try:
        pa.nulls(1, kind).cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return is_text(kind)
    return not isinstance(kind, pa.BaseExtensionType)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in (*checks, *binary))
