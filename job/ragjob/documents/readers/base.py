"""What every reader is: of a format whose file is one document, or of one whose rows are documents or prompts."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob import storage
from ragjob.documents.readers import GZIP
from ragjob.errors import DataError
from ragjob.storage.names import Entry

WHOLE_FILE = -1  # the group of a segment that is its whole file
MAX_COLUMNS = 1000  # of a table: more of them are no questions and documents, and fill the memory
GZIP_RATIO = 4  # of text, about
# Columns beside the file's own: the row's number in its file, and why the row can't be read, or null.
ROW, FAULT = "_ragjob_row", "_ragjob_fault"


class Decoded(NamedTuple):
    """A text, and why it can't be used: a text may have an error, too."""

    text: str | None
    error: str | None = None


class Kind(StrEnum):
    """What a block is: prose, a heading's own line, a table with a row on each line, or code."""

    PROSE = "prose"
    HEADING = "heading"
    TABLE = "table"
    CODE = "code"


class Block(NamedTuple):
    """A run of a document's text: from the character `start` up to the next block's, or to the end of the text.

    `level` is that of a heading, from 1; 0 for other blocks. `page` counts pages, slides or sheets from 1, where there
    are any.
    """

    start: int
    kind: Kind = Kind.PROSE
    level: int = 0
    page: int | None = None


@dataclass(frozen=True)
class Document:
    """What a file holds that is one document.

    `error` says why the text can't be used. `blocks` are in the order of the text, and the first begins with it; a text
    without any is prose. `title` is one that the file states, never its name. `metadata` has values of JSON, by name.
    """

    text: str | None
    error: str | None = None
    title: str | None = None
    blocks: Sequence[Block] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


class Unreadable(ValueError):  # noqa: N818 - reads as what the file is
    """Why a file can't be read. The message says what to do about it."""


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
        return [Segment(entry, WHOLE_FILE, 1, content_size(entry))]

    @abstractmethod
    def read(self, content: bytes) -> Document:
        """What a file holds. An exception that isn't a `RagjobError` becomes this document's error."""


class TableReader(ABC):
    """A format whose rows are documents or prompts.

    A file is decoded as a whole unless the reader overrides `segments` and `columns`.
    """

    # The column that holds the text, in a format without named columns. Else the settings name it.
    text_column: ClassVar[str | None] = None

    def segments(self, entry: Entry) -> list[Segment]:
        """Cut a file into what is decoded at once. Raises `DataError` when it can't be read."""
        rows = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None)
        return [Segment(entry, WHOLE_FILE, rows.num_rows, content_size(entry))]

    def columns(self, entry: Entry) -> pa.Schema:
        """The file's columns. Raises `DataError` when it can't be read."""
        columns = segment_rows(self, entry.uri, entry.tag, WHOLE_FILE, None).schema
        return pa.schema([field for field in columns if field.name not in (ROW, FAULT)])

    @abstractmethod
    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        """The rows of one segment with ROW and FAULT, as `numbered` or `marked` adds them.

        Of `columns`, or of all for None, it has those that are in the file; others do no harm.
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
        raise DataError(f"{uri}: can't be read: {' '.join(str(error).split())[:200]}; mend the file") from error
    return rows


def content_size(entry: Entry) -> int:
    """Bytes of a file's content: of a compressed file, about."""
    return entry.size * (GZIP_RATIO if entry.path.lower().endswith(GZIP) else 1)


def check_names(uri: str, names: list[str]) -> None:
    """Raise `DataError` when two columns of a file have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{uri}: column {twice[0]!r} stands twice; rename one")


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
