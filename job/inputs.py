"""What the corpus and the prompts hold, found from listings, footers and headers, and how it is cut into units."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from job import schema, storage
from job.config import Corpus, Prompts
from job.errors import DataError
from job.formats import FAULT, ROW, TABLES, ids_of, is_plain, is_text, parquet_schema, segment_rows

DOCUMENT_FILES = (".txt", ".md", *TABLES)
PROMPT_FILES = (".txt", *TABLES)
_TAKEABLE = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}  # Arrow can't pick rows of views

# A run of rows: `first` and `rows` count within the segment; `position` counts over the whole input.
SLICES = pa.schema(
    [
        ("uri", pa.string()),
        ("path", pa.string()),
        ("tag", pa.string()),
        ("group", pa.int32()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
        ("position", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Segment:
    """Rows that are decoded at once: a Parquet row group (`group`), or a whole file of another kind (-1)."""

    entry: storage.Entry
    group: int
    rows: int
    size: int


@dataclass(frozen=True)
class Inputs:
    """What an input holds: its segments in order, and the schema of the pass-through columns."""

    segments: list[Segment]
    passed: pa.Schema

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)


def scan_corpus(entries: list[storage.Entry], corpus: Corpus) -> list[Segment]:
    """Find the corpus's segments. Raises `DataError` for a missing column, a torn file, an id given twice."""
    segments = [
        segment
        for entry in entries
        for segment in (_segments(entry, "corpus.uri") if entry.path.endswith(TABLES) else [_document(entry)])
    ]
    tables = [segment for segment in segments if segment.rows and segment.entry.path.endswith(TABLES)]
    for first in _firsts(tables):
        _check_columns(first, ("corpus.text_column", corpus.text_column), ("corpus.id_column", corpus.id_column))
    if corpus.id_column:
        files = {entry.path for entry in entries if not entry.path.endswith(TABLES)}  # their ids
        _check_ids(tables, corpus.id_column, "corpus.id_column", files)
    if not sum(segment.size for segment in segments if segment.rows):
        raise DataError(f"corpus.uri: {len(entries)} files, all empty; name files with text in them")
    return segments


def scan_prompts(entries: list[storage.Entry], prompts: Prompts) -> Inputs:
    """Find the prompts' segments and pass-through columns. Raises `DataError` as `scan_corpus` does."""
    segments = [segment for entry in entries for segment in _segments(entry, "prompts.uri")]
    if not sum(segment.rows for segment in segments):
        raise DataError(f"prompts.uri: no prompt in {entries[0].uri}; name a file that has some")
    passed = []
    for first in _firsts([segment for segment in segments if segment.rows]):
        names = ("prompts.prompt_column", prompts.prompt_column), ("prompts.id_column", prompts.id_column)
        columns = _check_columns(first, *names)
        kept = [field for field in columns if field.name not in _taken(prompts)]
        passed.append(pa.schema([field.with_type(_TAKEABLE.get(field.type, field.type)) for field in kept]))
    if prompts.id_column:
        _check_ids(segments, prompts.id_column, "prompts.id_column", set())
    return Inputs(segments, _unify(passed))


def plan_slices(segments: list[Segment], rows: int, size: int) -> Iterator[pa.Table]:
    """Group the rows of `segments` into units of at most `rows` rows and about `size` bytes, as SLICES.

    The same input always gives the same units: what a unit holds never depends on what was done before.
    """
    unit: list[tuple[Any, ...]] = []
    room, space, position = rows, float(size), 0
    for segment in segments:
        each, first = segment.size / max(segment.rows, 1), 0
        while first < segment.rows:
            count = int(min(segment.rows - first, room, max(1, space // each if each else room)))
            entry = segment.entry
            unit.append((entry.uri, entry.path, entry.tag, segment.group, first, count, position))
            first, position = first + count, position + count
            room, space = room - count, space - count * each
            if room <= 0 or space < each:
                yield _slices(unit)
                unit, room, space = [], rows, float(size)
    if unit:
        yield _slices(unit)


def without(unit: pa.Table, done: npt.NDArray[np.bool_]) -> pa.Table:
    """Leave out of a unit the rows whose position is marked in `done`."""
    kept = []
    for row in unit.to_pylist():
        left = np.flatnonzero(~done[row["position"] : row["position"] + row["rows"]])
        for run in np.split(left, np.flatnonzero(np.diff(left) > 1) + 1):
            if len(run):
                shift = int(run[0])
                moved = {"first": row["first"] + shift, "position": row["position"] + shift, "rows": len(run)}
                kept.append(tuple({**row, **moved}.values()))
    return _slices(kept)


def _document(entry: storage.Entry) -> Segment:
    return Segment(entry, -1, 1, entry.size)


def _segments(entry: storage.Entry, key: str) -> Iterator[Segment]:
    if not entry.path.endswith(".parquet"):
        try:
            yield Segment(entry, -1, segment_rows(entry.uri, entry.tag, -1, None).num_rows, entry.size)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error
        return
    metadata = parquet_schema(entry, key)[0]
    for group in range(metadata.num_row_groups):
        about = metadata.row_group(group)
        yield Segment(entry, group, about.num_rows, about.total_byte_size)


def _firsts(segments: list[Segment]) -> list[Segment]:
    """The first segment of each file."""
    return list({segment.entry.uri: segment for segment in reversed(segments)}.values())[::-1]


def _columns(segment: Segment, key: str) -> pa.Schema:
    if segment.group >= 0:
        return parquet_schema(segment.entry, key)[1].remove_metadata()
    found = segment_rows(segment.entry.uri, segment.entry.tag, -1, None).schema
    return pa.schema([field for field in found if field.name not in (ROW, FAULT)])


def _check_columns(segment: Segment, *wanted: tuple[str, str | None]) -> pa.Schema:
    if not segment.entry.path.endswith(TABLES):  # lines of text have no columns to name
        return pa.schema([])
    columns = _columns(segment, wanted[0][0].split(".")[0] + ".uri")
    for key, name in wanted:
        if name and name not in columns.names:
            has = ", ".join(columns.names) or "none"
            raise DataError(f"{key}: {segment.entry.uri} has no column {name!r}; it has {has}")
    key, name = wanted[0]
    kind = columns.field(name).type
    if not (is_text(kind) or pa.types.is_null(kind)):
        raise DataError(f"{key}: column {name!r} of {segment.entry.uri} holds {kind}, it must hold text")
    key, name = wanted[1]
    if name and not is_plain(columns.field(name).type):
        kind = columns.field(name).type
        raise DataError(f"{key}: column {name!r} of {segment.entry.uri} holds {kind}, it must hold plain values")
    return columns


def _check_ids(segments: list[Segment], column: str, key: str, seen: set[str]) -> None:
    """Raise `DataError` for an id that is missing, stands twice in `column` or is among `seen`, the ids of others."""
    for segment in segments:
        table = segment_rows(segment.entry.uri, segment.entry.tag, segment.group, (column,))
        for given, fault in zip(ids_of(table, column), table[FAULT].to_pylist(), strict=True):
            if not given and fault is None:
                raise DataError(f"{key}: {segment.entry.uri} has a row without {column!r}; give each row one")
            if given in seen:
                raise DataError(f"{key}: {given!r} stands twice in column {column!r}, or is a text file's id; make the ids unique")
            if given is not None:
                seen.add(given)


def _taken(prompts: Prompts) -> set[str | None]:
    return {prompts.prompt_column, prompts.id_column}


def _unify(schemas: list[pa.Schema]) -> pa.Schema:
    try:
        passed = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"prompts.uri: its files' columns don't agree: {' '.join(str(error).split())}") from error
    for name in passed.names:
        if name in schema.RESERVED:
            raise DataError(f"prompts.uri: column {name!r} is the name of an answer column; rename it")
    return passed


def _slices(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * len(SLICES)
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, SLICES, strict=True)], schema=SLICES
    )
