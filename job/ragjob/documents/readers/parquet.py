"""Parquet files: counted and checked by their footers, decoded by row groups."""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.documents.readers.base import Segment, TableReader, Unreadable, check_names, check_width, numbered
from ragjob.documents.readers.content import check_unpacked
from ragjob.documents.tables import is_text
from ragjob.errors import DataError
from ragjob.storage.names import Entry

MAX_GROUP_ROWS = 4 * 2**20  # writers end a row group at a million rows, or much earlier
NESTED_ROWS = 64  # with lists or objects are decoded at a time
CELL_BYTES = 8  # of a value, unless its type says more


class Parquet(TableReader):
    """Parquet: a segment is a row group, and only the columns that are asked for are read.

    Columns of text come as dictionaries of their distinct values, since few bytes may stand for many long texts. All is
    read in the caller's thread, as `ledger.files` explains.
    """

    def segments(self, entry: Entry) -> list[Segment]:
        metadata = _footer(entry).metadata
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        return [Segment(entry, number, group.num_rows, group.total_byte_size) for number, group in enumerate(groups)]

    def columns(self, entry: Entry) -> pa.Schema:
        return _footer(entry).schema_arrow.remove_metadata()

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        footer = pq.ParquetFile(file)
        metadata, fields = footer.metadata, footer.schema_arrow
        names = [name for name in fields.names if columns is None or name in columns]
        texts = [name for name in names if is_text(fields.field(name).type)]
        nested = [name for name in names if pa.types.is_nested(fields.field(name).type)]
        _check_group(metadata.row_group(group), [fields.field(name) for name in names])
        parquet = pq.ParquetFile(file, metadata=metadata, read_dictionary=texts, pre_buffer=False)
        rows = parquet.read_row_group(group, [name for name in names if name not in nested], use_threads=False)
        for name in nested:
            rows = rows.append_column(name, _nested(parquet, group, name))
        before = sum(metadata.row_group(number).num_rows for number in range(group))
        return numbered(rows.select(names), before)


def _check_group(group: pq.RowGroupMetaData, fields: list[pa.Field]) -> None:
    """Raise `Unreadable` for a row group whose columns `fields` take far more memory than their share of the file."""
    if group.num_rows > MAX_GROUP_ROWS:
        raise Unreadable(f"a row group has {group.num_rows:,} rows; write it again with {MAX_GROUP_ROWS:,} at most")
    chunks = [group.column(number) for number in range(group.num_columns)]
    read = [chunk for chunk in chunks if any(_is_of(chunk.path_in_schema, field.name) for field in fields)]
    cells = group.num_rows * sum(map(_cell_bytes, fields))
    packed = sum(chunk.total_compressed_size for chunk in read)
    check_unpacked(max(cells, sum(chunk.total_uncompressed_size for chunk in read)), packed)


def _cell_bytes(field: pa.Field) -> int:
    return int(field.type.byte_width) if pa.types.is_fixed_size_binary(field.type) else CELL_BYTES


def _is_of(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _nested(parquet: pq.ParquetFile, group: int, name: str) -> pa.ChunkedArray:
    """A column of lists or objects. Arrow gives no dictionaries of those, so it is decoded a few rows at a time."""
    chunks = [parquet.metadata.row_group(group).column(number) for number in range(parquet.metadata.num_columns)]
    packed = sum(chunk.total_compressed_size for chunk in chunks if _is_of(chunk.path_in_schema, name))
    batches, size = [], 0
    for batch in parquet.iter_batches(NESTED_ROWS, row_groups=[group], columns=[name], use_threads=False):
        size += batch.nbytes
        check_unpacked(size, packed)
        batches.append(batch.select([name]))
    return pa.Table.from_batches(batches, pa.schema([parquet.schema_arrow.field(name)]))[name]


def _footer(entry: Entry) -> pq.ParquetFile:
    """A file whose footer is read; the file itself is closed. Raises `DataError` when it isn't whole."""
    try:
        with storage.open_input(entry.uri, entry.tag) as source:
            file = pq.ParquetFile(source)
            check_names(entry.uri, file.schema_arrow.names)
            check_width(file.metadata.num_columns)
            return file
    except Unreadable as error:
        raise DataError(f"{entry.uri}: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{entry.uri}: not a complete Parquet file; write it again") from error
