"""What the corpus and the prompts hold, and how it is cut into units of work."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob import storage
from ragjob.documents.passing import common_columns, passing
from ragjob.documents.readers import document_reader, prompt_reader
from ragjob.documents.readers.base import FAULT, ROW, DocumentReader, Segment, TableReader, segment_rows
from ragjob.documents.settings import Chunk, Corpus, Prompts
from ragjob.documents.tables import ids_of, is_plain, is_storable, is_text
from ragjob.errors import DataError
from ragjob.storage.names import Entry

__all__ = [
    "SLICES",
    "Inputs",
    "Segment",
    "Slice",
    "plan_slices",
    "sample",
    "scan_corpus",
    "scan_prompts",
    "slices",
    "without",
]

# A unit is a table of these: the fields of `Slice`.
SLICES = pa.schema(
    [
        ("uri", pa.string()),
        ("listed_uri", pa.string()),
        ("path", pa.string()),
        ("tag", pa.string()),
        ("group", pa.int32()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
        ("position", pa.int64()),
    ]
)

BYTES_A_TOKEN = 4  # of English text


@dataclass(frozen=True)
class Slice:
    """A run of rows: `first` and `rows` count within the segment `group`; `position` counts over the whole input."""

    uri: str
    listed_uri: str
    path: str
    tag: str
    group: int
    first: int
    rows: int
    position: int

    def content(self) -> bytes:
        """All bytes of the file. Raises `DependencyError` when it can't be read, or is no longer the listed one."""
        return storage.read_bytes(self.uri, self.tag)


@dataclass(frozen=True)
class Inputs:
    """What an input holds: its segments in order, and the schema of the pass-through columns."""

    segments: list[Segment]
    passed: pa.Schema

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)


def scan_corpus(entries: list[Entry], corpus: Corpus) -> list[Segment]:
    """Find the corpus's segments. Raises `DataError` for a missing column, a torn file, an id given twice."""
    readers = {entry.path: document_reader(entry.path) for entry in entries}
    tables = {path: reader for path, reader in readers.items() if isinstance(reader, TableReader)}
    segments = _segments(entries, readers, "corpus.uri")
    rows = [segment for segment in segments if segment.rows and segment.entry.path in tables]
    for entry in _entries(rows):
        _check_columns(entry, tables[entry.path], corpus)
    if corpus.id_column:
        names = readers.keys() - tables.keys()  # the ids of files that are documents
        _check_ids(rows, tables, "corpus.id_column", corpus.id_column, names)
    if not sum(segment.size for segment in segments if segment.rows):
        raise DataError(f"corpus.uri: all {len(entries)} files are empty; name files that contain text")
    return segments


def scan_prompts(entries: list[Entry], prompts: Prompts) -> Inputs:
    """Find the prompts' segments and pass-through columns. Raises `DataError` as `scan_corpus` does."""
    readers = {entry.path: prompt_reader(entry.path) for entry in entries}
    segments = _segments(entries, readers, "prompts.uri")
    rows = [segment for segment in segments if segment.rows]
    if not rows:
        raise DataError(f"prompts.uri: no prompt in {entries[0].uri}; name a file that has some")
    passed = {entry: _passed(entry, readers[entry.path], prompts) for entry in _entries(rows)}
    if prompts.id_column:
        _check_ids(rows, readers, "prompts.id_column", prompts.id_column, set())
    return Inputs(segments, common_columns(passed, rows))


def estimate_chunks(chunk: Chunk, segments: list[Segment]) -> int:
    """About how many chunks a corpus will have."""
    return sum(segment.size for segment in segments) // (BYTES_A_TOKEN * chunk.size // 2)


def plan_slices(segments: list[Segment], rows: int, size: int) -> Iterator[pa.Table]:
    """Group the rows of `segments` into units of at most `rows` rows and about `size` bytes, as SLICES.

    The same input always gives the same units: what a unit holds never depends on what was done before.
    """
    unit: list[Slice] = []
    room, space, position = rows, float(size), 0
    for segment in segments:
        row_size, first = segment.size / max(segment.rows, 1), 0
        while first < segment.rows:
            count = int(min(segment.rows - first, room, max(1, space // row_size if row_size else room)))
            entry = segment.entry
            file = (entry.uri, entry.listed_uri, entry.path, entry.tag)
            unit.append(Slice(*file, segment.group, first, count, position))
            first, position = first + count, position + count
            room, space = room - count, space - count * row_size
            if room <= 0 or space < row_size:
                yield _unit(unit)
                unit, room, space = [], rows, float(size)
    if unit:
        yield _unit(unit)


def sample(segments: list[Segment], rows: int, size: int) -> pa.Table:
    """A unit of at most `rows` single rows at even distances, from segments of at most `size` bytes together."""
    starts = [0, *accumulate(segment.rows for segment in segments)]
    total, opened, picked = starts[-1], set[int](), []
    for row in sorted({(2 * number + 1) * total // (2 * rows) for number in range(rows if total else 0)}):
        number = bisect_right(starts, row) - 1
        segment, entry = segments[number], segments[number].entry
        if number not in opened and segment.size > size:
            continue
        size -= segment.size * (number not in opened)
        opened.add(number)
        picked.append(
            Slice(entry.uri, entry.listed_uri, entry.path, entry.tag, segment.group, row - starts[number], 1, row)
        )
    return _unit(picked)


def slices(unit: pa.Table) -> list[Slice]:
    """What a unit holds."""
    return [Slice(**row) for row in unit.to_pylist()]


def without(unit: pa.Table, done: npt.NDArray[np.bool_]) -> pa.Table:
    """Leave out of a unit the rows whose position is marked in `done`."""
    kept = []
    for whole in slices(unit):
        left = np.flatnonzero(~done[whole.position : whole.position + whole.rows])
        for run in np.split(left, np.flatnonzero(np.diff(left) > 1) + 1):
            if len(run):
                shift = int(run[0])
                kept.append(replace(whole, first=whole.first + shift, position=whole.position + shift, rows=len(run)))
    return _unit(kept)


def _unit(kept: list[Slice]) -> pa.Table:
    return pa.Table.from_pylist([vars(part) for part in kept], SLICES)


def _segments(entries: list[Entry], readers: Mapping[str, DocumentReader | TableReader], key: str) -> list[Segment]:
    with storage.naming(key):
        return [segment for entry in entries for segment in readers[entry.path].segments(entry)]


def _entries(segments: list[Segment]) -> Iterable[Entry]:
    """The files of the segments, in order."""
    return dict.fromkeys(segment.entry for segment in segments)


def _columns(entry: Entry, reader: TableReader, key: str) -> pa.Schema:
    with storage.naming(key):
        return reader.columns(entry)


def _check_columns(entry: Entry, reader: TableReader, corpus: Corpus) -> None:
    """Raise `DataError` if a file lacks a column that the settings name, or the column can't be used."""
    if reader.text_column:  # no setting names a column of such a file
        return
    columns = _columns(entry, reader, "corpus.uri")
    _check_column(entry, columns, "corpus.text_column", corpus.text_column, _may_be_text, "text")
    if corpus.id_column:
        _check_column(entry, columns, "corpus.id_column", corpus.id_column, is_plain, "plain values")
    if corpus.title_column:
        _check_column(entry, columns, "corpus.title_column", corpus.title_column, _may_be_text, "text")
    for name in corpus.metadata_columns:
        _check_column(entry, columns, "corpus.metadata_columns", name, is_storable, "values that JSON can hold")


def _passed(entry: Entry, reader: TableReader, prompts: Prompts) -> pa.Schema:
    """The columns that pass through from one file of prompts. Raises `DataError` if the others can't be used."""
    if reader.text_column:
        return pa.schema([])
    columns = _columns(entry, reader, "prompts.uri")
    _check_column(entry, columns, "prompts.prompt_column", prompts.prompt_column, _may_be_text, "text")
    if prompts.id_column:
        _check_column(entry, columns, "prompts.id_column", prompts.id_column, is_plain, "plain values")
    return passing(entry, [field for field in columns if field.name not in (prompts.prompt_column, prompts.id_column)])


def _check_column(
    entry: Entry, columns: pa.Schema, key: str, name: str, fits: Callable[[pa.DataType], bool], what: str
) -> None:
    """Raise `DataError` when a file lacks the column that setting `key` names, or its type isn't `what` it must be."""
    if name not in columns.names:
        has = ", ".join(columns.names) or "none"
        raise DataError(f"{key}: {entry.uri} has no column {name!r}; it has {has}")
    kind = columns.field(name).type
    if not fits(kind):
        raise DataError(f"{key}: column {name!r} of {entry.uri} holds {kind}; it must hold {what}")


def _may_be_text(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_null(kind))


def _check_ids(
    segments: list[Segment], readers: Mapping[str, TableReader], key: str, column: str, seen: set[str]
) -> None:
    """Raise `DataError` for an id that is missing, stands twice in `column` or is among `seen`, the ids of others."""
    for segment in segments:
        entry = segment.entry
        rows = segment_rows(readers[entry.path], entry.uri, entry.tag, segment.group, (column,))
        try:
            ids = ids_of(rows, column)
        except ValueError as error:
            raise DataError(
                f"{key}: column {column!r} of {entry.uri}: {error}; write ids as integers or text"
            ) from error
        for at, (given, fault) in enumerate(zip(ids, rows[FAULT].to_pylist(), strict=True)):
            if not given and fault is None:
                number = rows[ROW][at].as_py() + 1
                raise DataError(f"{key}: row {number} of {entry.uri} has no {column!r}; give each row one")
            if given in seen:
                raise DataError(
                    f"{key}: {given!r} appears twice in column {column!r}, or is also a text file's id; make it unique"
                )
            if given is not None:
                seen.add(given)
