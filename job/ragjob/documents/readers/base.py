"""The base of every reader: a file of its format is one document, or each row is a document or a prompt."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob import storage
from ragjob.documents.readers.document import WHOLE_FILE as WHOLE_FILE
from ragjob.documents.readers.document import Block as Block
from ragjob.documents.readers.document import Decoded as Decoded
from ragjob.documents.readers.document import Document as Document
from ragjob.documents.readers.document import DocumentReader as DocumentReader
from ragjob.documents.readers.document import Kind as Kind
from ragjob.documents.readers.document import Limits as Limits
from ragjob.documents.readers.document import Segment as Segment
from ragjob.documents.readers.document import Unreadable as Unreadable
from ragjob.documents.readers.document import content_size as content_size
from ragjob.errors import DataError
from ragjob.storage.names import Entry

MAX_COLUMNS = 1000  # of a table: more of them are no questions and documents, and fill the memory
# Columns beside the file's own: the row's number in its file, and why the row can't be read, or null.
ROW, FAULT = "_ragjob_row", "_ragjob_fault"


class TableReader(ABC):
    """A format whose rows are documents or prompts.

    A file is decoded as a whole unless the reader overrides `segments` and `columns`.
    """

    # The column that holds the text, in a format without named columns. Else the settings name it.
    text_column: ClassVar[str | None] = None

    def segments(self, entry: Entry) -> list[Segment]:
        """Cut a file into segments, each decoded at once. Raises `DataError` when it can't be read."""
        rows = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None)
        return [Segment(entry, WHOLE_FILE, rows.num_rows, content_size(entry))]

    def columns(self, entry: Entry) -> pa.Schema:
        """The file's columns. Raises `DataError` when it can't be read."""
        columns = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None).schema
        return pa.schema([field for field in columns if field.name not in (ROW, FAULT)])

    @abstractmethod
    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        """The rows of one segment with ROW and FAULT, as `numbered` or `marked` adds them.

        They have those of `columns` (None for all) that are in the file, and may have others.
        Raises `Unreadable`, or another `ValueError`, `OSError` or Arrow exception, when the file isn't of this format.
        """


@lru_cache(maxsize=1)  # the next unit is often of the same segment
def segment_rows(reader: TableReader, uri: str, tag: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    """Decode one segment of the file that was listed with `tag`, as `TableReader.decode` says.

    Raises `DataError` when the file can't be read or has two columns of one name.
    """
    try:
        with storage.open_input(uri, tag) as file:
            rows = reader.decode(file, group, columns)
        check_names(uri, rows.column_names)  # which Arrow decodes only now
    except Unreadable as error:
        raise DataError(f"{uri}: {error}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{uri}: can't be read: {' '.join(str(error).split())[:200]}; repair the file") from error
    return rows


def check_names(uri: str, names: list[str]) -> None:
    """Raise `DataError` when two columns of a file have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{uri}: column {twice[0]!r} appears twice; rename one")


def check_width(columns: int) -> None:
    """Raise `Unreadable` for a file of more than MAX_COLUMNS columns."""
    if columns > MAX_COLUMNS:
        raise Unreadable(f"file has more than {MAX_COLUMNS:,} columns; leave out those that aren't needed")


def numbered(rows: pa.Table, before: int = 0) -> pa.Table:
    """Add ROW and FAULT to rows without a fault that follow `before` others in their file."""
    return marked(rows, np.arange(before, before + rows.num_rows), pa.nulls(rows.num_rows, pa.string()))


def marked(rows: pa.Table, numbers: Sequence[int] | npt.NDArray[np.int64], faults: Sequence[str | None]) -> pa.Table:
    """Add each row's number in its file as ROW and why it can't be read as FAULT."""
    marks = {ROW: pa.array(numbers, pa.int64()), FAULT: pa.array(faults, pa.string())}
    if not rows.num_columns:
        return pa.table(marks)
    return rows.append_column(ROW, marks[ROW]).append_column(FAULT, marks[FAULT])
