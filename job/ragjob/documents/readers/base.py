"""What every reader is: of a format whose file is one document, or of one whose rows are documents or prompts."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, ClassVar, NamedTuple

import pyarrow as pa

from ragjob import storage
from ragjob.errors import DataError
from ragjob.storage.names import Entry

WHOLE_FILE = -1  # the group of a segment that is its whole file
# Columns beside the file's own: the row's number in its file, and why the row can't be read, or null.
ROW, FAULT = "_ragjob_row", "_ragjob_fault"


class Decoded(NamedTuple):
    """A document's or a prompt's text, and why it can't be used: a text may have an error, too."""

    text: str | None
    error: str | None = None


@dataclass(frozen=True)
class Segment:
    """Rows that are decoded at once: one group of a file's rows, by its number, or WHOLE_FILE. `size` is in bytes."""

    entry: Entry
    group: int
    rows: int
    size: int


class DocumentReader(ABC):
    """A format whose file is one document."""

    def segments(self, entry: Entry) -> list[Segment]:
        """The file as a segment of one row. It isn't opened."""
        return [Segment(entry, WHOLE_FILE, 1, entry.size)]

    @abstractmethod
    def read(self, content: bytes) -> Decoded:
        """The text of a file. An exception that isn't a `RagjobError` becomes this document's error."""


class TableReader(ABC):
    """A format whose rows are documents or prompts.

    A file is decoded as a whole unless the reader overrides `segments` and `columns`.
    """

    # The column that holds the text, in a format without named columns. Else the settings name it.
    text_column: ClassVar[str | None] = None

    def segments(self, entry: Entry) -> list[Segment]:
        """Cut a file into what is decoded at once. Raises `DataError` when it can't be read."""
        rows = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None)
        return [Segment(entry, WHOLE_FILE, rows.num_rows, entry.size)]

    def columns(self, entry: Entry) -> pa.Schema:
        """The file's columns. Raises `DataError` when it can't be read."""
        columns = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None).schema
        return pa.schema([field for field in columns if field.name not in (ROW, FAULT)])

    @abstractmethod
    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        """The rows of one segment with ROW and FAULT, as `numbered` or `marked` adds them.

        Of `columns`, or of all for None, it has those that are in the file; others do no harm.
        Raises `ValueError`, `OSError` or an Arrow exception when the file isn't of this format.
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
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{uri}: can't be read: {' '.join(str(error).split())[:200]}; mend the file") from error
    return rows


def check_names(uri: str, names: list[str]) -> None:
    """Raise `DataError` when two columns of a file have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{uri}: column {twice[0]!r} stands twice; rename one")


def numbered(rows: pa.Table, before: int = 0) -> pa.Table:
    """Add ROW and FAULT to rows without a fault that follow `before` others in their file."""
    return marked(rows, range(before, before + rows.num_rows), [None] * rows.num_rows)


def marked(rows: pa.Table, numbers: Sequence[int], faults: list[str | None]) -> pa.Table:
    """Add each row's number in its file as ROW and why it can't be read as FAULT."""
    marks = {ROW: pa.array(numbers, pa.int64()), FAULT: pa.array(faults, pa.string())}
    if not rows.num_columns:
        return pa.table(marks)
    return rows.append_column(ROW, marks[ROW]).append_column(FAULT, marks[FAULT])


def decode_utf8(content: bytes, what: str) -> Decoded:
    """Text in UTF-8, without a byte order mark. Where it isn't, wrong bytes show, and the error calls it `what`."""
    try:
        return Decoded(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        wrong = f"{what} isn't UTF-8: byte {error.start} is wrong"
        return Decoded(content.decode("utf-8", "replace"), wrong)
