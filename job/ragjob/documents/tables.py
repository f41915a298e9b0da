"""What the columns of tables hold: text, ids and plain values."""

import pyarrow as pa


def as_binary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The bytes of a column of any type of text."""
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
    return not (isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of this type are text, or bytes that may be text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in (*checks, *binary))
