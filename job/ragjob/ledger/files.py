"""Whole Parquet files and JSON, to and from storage."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.errors import DataError

TAKEN_UP = "_taken-up"  # a file put by each attempt as it begins: its time tells `clean` that somebody is at work


def read_parquet(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Read a file. Raises `DataError` when it isn't whole.

    It is read in this thread: one of Arrow's that still holds a Python object when the interpreter ends aborts the job.
    """
    try:
        with storage.open_input(uri) as file:
            return pq.ParquetFile(file, pre_buffer=False).read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: not a complete Parquet file; remove it and run again") from error


def read_if_there(uri: str) -> bytes | None:
    """Content of a file, or None if there is none: one request, so nothing changes between a look and a read."""
    try:
        return storage.read_bytes(uri)
    except storage.MissingError:
        return None


def to_parquet(table: pa.Table) -> bytes:
    """Equal tables give equal bytes."""
    sink = io.BytesIO()
    # Of a vector's numbers hardly two are equal: a dictionary of them takes twice the time, and more room.
    vectors = {field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)}
    dictionaries = [name for name in table.column_names if name not in vectors] if vectors else True
    pq.write_table(table, sink, compression="zstd", use_dictionary=dictionaries)
    return sink.getvalue()


def to_json(value: object) -> bytes:
    """For people to read, too."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
