"""CSV files: a header, then a row a line; a field in quotes may hold line breaks."""

import io
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from ragjob.documents.readers.base import TableReader, numbered


class CSV(TableReader):
    """CSV in UTF-8. All values are text."""

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        content = file.read()
        if not content.strip():
            return numbered(pa.table({}))
        read = pyarrow.csv.ReadOptions(block_size=min(len(content) + 1, 2**31 - 1))
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
        # Text as it stands: of ids that look like numbers, 001 and 1 are two.
        convert = pyarrow.csv.ConvertOptions(check_utf8=False, default_column_type=pa.string())
        return numbered(pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert))
