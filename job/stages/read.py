"""Read documents and prompts from files.

NEEDS  uri, path, tag: string; group: int32; first, rows, position: int64; one row a run of rows of one file
ADDS   for `index`   document_id, text, error: string; one row a document
       for `answer`  _position: int64; prompt_id, prompt, error: string; the pass-through columns
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from job import schema, storage
from job.config import Corpus, Prompts
from job.formats import FAULT, ROW, TABLES, as_binary, ids_of, segment_rows
from job.schema import MAX_TEXT_CHARS


class ReadDocuments:
    """Read units of the corpus. A text file is one document, and so is each row of a table."""

    def __init__(self, corpus: Corpus, done: frozenset[str]) -> None:
        self._corpus = corpus
        self._done = done

    def __call__(self, unit: pa.Table) -> pa.Table:
        documents = [document for row in unit.to_pylist() for document in self._read(row)]
        fields = [schema.CHUNKS.field(name) for name in (schema.DOCUMENT_ID, schema.URI, schema.TEXT, schema.ERROR)]
        fresh = [document for document in documents if document[schema.DOCUMENT_ID] not in self._done]
        return pa.Table.from_pylist(fresh, pa.schema(fields))

    def _read(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not row["path"].endswith(TABLES):
            text, fault = _decode(storage.read_bytes(row["uri"], row["tag"]), "file")
            yield _document_row(row["path"], row["uri"], text, fault)
            return
        table = _rows(row, (self._corpus.text_column, self._corpus.id_column))
        texts = _texts(table, self._corpus.text_column, "text")
        numbers = table[ROW].to_pylist()
        ids = ids_of(table, self._corpus.id_column)
        for (text, fault), number, given in zip(texts, numbers, ids, strict=True):
            yield _document_row(given or f"{row['path']}#{number}", row["uri"], text, fault)


class ReadPrompts:
    """Read units of the prompts. A line of a text file is one prompt, and so is each row of a table."""

    def __init__(self, prompts: Prompts, passed: pa.Schema) -> None:
        self._prompts = prompts
        self._passed = passed

    def __call__(self, unit: pa.Table) -> pa.Table:
        return pa.concat_tables([self._read(row) for row in unit.to_pylist()])

    def _read(self, row: dict[str, Any]) -> pa.Table:
        table = _rows(row, None)
        column = self._prompts.prompt_column if row["path"].endswith(TABLES) else schema.PROMPT
        found = _texts(table, column, "prompt")
        given = ids_of(table, self._prompts.id_column)
        numbers = table[ROW].to_pylist()
        texts = [text for text, _ in found]
        ids = [
            known or schema.digest(row["path"], number, text)
            for known, number, text in zip(given, numbers, texts, strict=True)
        ]
        columns = {
            schema.POSITION: pa.array(range(row["position"], row["position"] + len(ids)), pa.int64()),
            schema.PROMPT_ID: pa.array(ids, pa.string()),
            schema.PROMPT: pa.array(texts, pa.string()),
            schema.ERROR: pa.array([fault for _, fault in found], pa.string()),
        }
        return pa.table(columns | {field.name: _passed(table, field) for field in self._passed})


def _document_row(name: str, uri: str, text: str | None, fault: str | None) -> dict[str, Any]:
    return dict(zip((schema.DOCUMENT_ID, schema.URI, schema.TEXT, schema.ERROR), (name, uri, text, fault), strict=True))


def _texts(table: pa.Table, column: str, what: str) -> list[tuple[str | None, str | None]]:
    """Text and error of each row: null, blank, overlong and undecodable ones are errors."""
    values = as_binary(table[column]).to_pylist() if column in table.column_names else [None] * table.num_rows
    faults = table[FAULT].to_pylist()
    return [(None, fault) if fault else _decode(value, what) for value, fault in zip(values, faults, strict=True)]


def _decode(value: bytes | None, what: str) -> tuple[str | None, str | None]:
    if value is None:
        return None, f"{what} is null"
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return value.decode("utf-8", "replace"), f"{what} isn't UTF-8: byte {error.start} is wrong"
    if what == "file":
        return text, None
    if not text.strip():
        return text, f"{what} is blank"
    if what == "prompt" and len(text) > MAX_TEXT_CHARS:
        return text, f"prompt has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}"
    return text, None


def _passed(table: pa.Table, field: pa.Field) -> pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table[field.name]
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:  # text that isn't UTF-8
        column = pa.chunked_array([[_decode(value, "file")[0] for value in as_binary(column).to_pylist()]])
    return column.cast(field.type)


def _rows(row: dict[str, Any], columns: tuple[str | None, ...] | None) -> pa.Table:
    wanted = columns and tuple(name for name in columns if name)
    return segment_rows(row["uri"], row["tag"], row["group"], wanted).slice(row["first"], row["rows"])
