"""What the columns of tables hold: text, ids and plain values."""

import json
from datetime import date, time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ragjob.documents.readers.base import Unreadable

EXPANDED_BYTES = 64 * 2**20  # that a column of few distinct values may come to, beside twice their own size
# Whole numbers from here on are rounded in a float of so many bits.
_ROUNDED = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}


def as_binary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The bytes of a column of any type of text. Raises `ValueError` as `expanded` does."""
    return _plain(column).cast(pa.large_binary())


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column as strings; wrong bytes become U+FFFD, and objects and lists are JSON.

    Raises `ValueError` or an Arrow exception for values that text can't represent exactly.

    >>> as_text(pa.chunked_array([[7.0, 2.5, None]])).to_pylist()
    ['7', '2.5', None]
    """
    column = _plain(column)
    kind = column.type
    if is_text(kind):
        values = [value and value.decode("utf-8", "replace") for value in as_binary(column).to_pylist()]
    elif pa.types.is_floating(kind):
        values = [value if value is None else number_text(value) for value in column.to_pylist()]
    elif pa.types.is_nested(kind):
        values = [value if value is None else json_text(value) for value in column.to_pylist()]
    else:
        return _written(column)
    return pa.chunked_array([values], pa.string())


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as JSON: dates and times in ISO 8601, decimals as text, and NaN and infinity as null.

    Raises `ValueError` or an Arrow exception for values that JSON can't represent exactly.

    >>> json_values(pa.chunked_array([[date(2026, 3, 1), None]])), json_values(pa.chunked_array([[0.5, float("nan")]]))
    (['2026-03-01', None], [0.5, None])
    """
    column = _plain(column)
    if is_text(column.type):
        return list(as_text(column).to_pylist())
    return list(json.loads(json.dumps(column.to_pylist(), default=_json_value), parse_constant=lambda _: None))


def ids_of(table: pa.Table, column: str | None) -> list[str | None]:
    """The ids in `column` as strings; null if there is no id or no such column. NaN isn't an id.

    Raises `ValueError` for values that text can't represent exactly.
    """
    if not column or column not in table.column_names:
        return [None] * table.num_rows
    ids = _plain(table[column])
    if pa.types.is_floating(ids.type):
        most, ids = _ROUNDED[ids.type.bit_width], ids.cast(pa.float64())
        ids = pc.if_else(pc.is_nan(ids), None, ids)
        if (pc.max(pc.abs(ids)).as_py() or 0) >= most:
            raise ValueError("holds floats too large to be exact")
    try:
        return list(as_text(ids).to_pylist())
    except ValueError as error:
        raise ValueError(f"holds values that can't be written as text: {error}") from error


def expanded(rows: pa.Table) -> pa.Table:
    """Rows with plain values in place of dictionaries.

    Raises `Unreadable` when that takes too much memory: a few bytes of a file may stand for any number of long texts.
    """
    packed = {name: rows[name] for name in rows.column_names if pa.types.is_dictionary(rows[name].type)}
    texts = [chunk for column in packed.values() if is_text(column.type) for chunk in column.chunks]
    size = sum(map(_expanded_bytes, texts))
    if size > max(EXPANDED_BYTES, 2 * sum(chunk.dictionary.nbytes for chunk in texts)):
        raise Unreadable(
            f"{rows.num_rows:,} rows repeat texts that come to {size / 2**20:,.0f} MiB; lower commit_rows, or "
            f"leave out what is repeated in {', '.join(packed)}"
        )
    for name, column in packed.items():
        plain = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        rows = rows.set_column(rows.column_names.index(name), name, plain)
    return rows


def convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in another type. Raises `ValueError` or an Arrow exception when a value would change."""
    column = _plain(column)
    if is_text(column.type):
        column = _valid(column)
    if pa.types.is_string(kind) and not is_text(column.type):
        return as_text(column)
    return column.cast(kind)


def number_text(value: float) -> str:
    """A number as text, a whole one without a fraction.

    >>> number_text(7.0), number_text(0.1), number_text(1e300), number_text(float("nan"))
    ('7', '0.1', '1e+300', 'nan')
    """
    return str(int(value)) if abs(value) < _ROUNDED[64] and value.is_integer() else repr(value)


def json_text(value: object) -> str:
    """A value as JSON; a whole number is written without a fraction.

    >>> json_text(7.0), json_text({"a": [1, None]})
    ('7', '{"a": [1, null]}')
    """
    if isinstance(value, float) and value.is_integer():
        return number_text(value)
    return json.dumps(value, default=str)


def is_plain(kind: pa.DataType) -> bool:
    """Return whether values of this type can be written as text."""
    try:
        pa.nulls(1, kind).cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return is_text(kind)
    return not (isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_binary(kind))


def is_storable(kind: pa.DataType) -> bool:
    """Return whether `json_values` takes values of this type."""
    odd = (pa.types.is_duration, pa.types.is_interval, pa.types.is_fixed_size_binary, pa.types.is_union)
    return not any(
        isinstance(leaf, pa.BaseExtensionType) or any(is_odd(leaf) for is_odd in odd) for leaf in leaves(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of this type are text, or bytes that may be text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in (*checks, *binary))


def leaves(kind: pa.DataType) -> list[pa.DataType]:
    """The types of what lists and objects of this type hold in the end, or the type itself."""
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    return [leaf for child in inner for leaf in leaves(child)] if inner else [kind]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return expanded(pa.table({"": column}))[""]


def _expanded_bytes(chunk: pa.DictionaryArray) -> int:
    lengths = pc.binary_length(chunk.dictionary.cast(pa.large_binary()))
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0


def _json_value(value: object) -> str:
    """A value of a type that JSON doesn't have."""
    if isinstance(value, date | time):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _valid(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text; in one that isn't UTF-8, wrong bytes become U+FFFD."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return as_text(column)
    return column


def _written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text, kind = column.cast(pa.string()), column.type
    if pa.types.is_duration(kind):
        raise ValueError("durations, whose text has no unit")
    # Arrow writes dates far off in ways that tell less, or nothing.
    if (pa.types.is_timestamp(kind) or pa.types.is_date(kind)) and not text.cast(kind).equals(column):
        raise ValueError("dates that can't be written exactly as text")
    return text
