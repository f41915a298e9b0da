"""Parquet files: counted and checked by their footers, decoded by row groups."""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.documents.readers.base import Segment, TableReader, check_names, numbered
from ragjob.errors import DataError
from ragjob.storage.names import Entry


class Parquet(TableReader):
    """Parquet: a segment is a row group, and only the columns that are asked for are read."""

    def segments(self, entry: Entry) -> list[Segment]:
        metadata = _footer(entry).metadata
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        return [Segment(entry, number, group.num_rows, group.total_byte_size) for number, group in enumerate(groups)]

    def columns(self, entry: Entry) -> pa.Schema:
        return _footer(entry).schema_arrow.remove_metadata()

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        parquet = pq.ParquetFile(file)
        before = sum(parquet.metadata.row_group(number).num_rows for number in range(group))
        names = columns and [name for name in columns if name in parquet.schema_arrow.names]
        return numbered(parquet.read_row_group(group, columns=names), before)


def _footer(entry: Entry) -> pq.ParquetFile:
    """A file whose footer is read; the file itself is closed. Raises `DataError` when it isn't whole."""
    try:
        with storage.open_input(entry.uri, entry.tag) as source:
            file = pq.ParquetFile(source)
            check_names(entry.uri, file.schema_arrow.names)
            return file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{entry.uri}: not a whole Parquet file; write it again") from error
