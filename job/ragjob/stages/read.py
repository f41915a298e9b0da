"""Read documents and prompts from files."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from ragjob.documents.readers import document_reader, prompt_reader
from ragjob.documents.readers.base import (
    FAULT,
    ROW,
    Decoded,
    Document,
    DocumentReader,
    Limits,
    TableReader,
    Unreadable,
    segment_rows,
)
from ragjob.documents.readers.content import decode_utf8
from ragjob.documents.readers.draft import MAX_VALUE_CHARS
from ragjob.documents.settings import Corpus, Prompts
from ragjob.documents.tables import as_binary, convert, expanded, ids_of, json_values
from ragjob.documents.units import SLICES, Slice, slices
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.ledger.schema import MAX_TEXT_CHARS
from ragjob.stages.columns import Stage
from ragjob.stages.rows import attempt, foreign, row_error

Row = dict[str, object]

MAX_METADATA_CHARS = 50_000  # of a document, as JSON


class ReadDocuments(Stage):
    """Read units of the corpus: each file of some formats is one document, and each row of the others.

    A document that a table's row leaves blank or null has an error and the text "". Beside another error the text is
    null or what could be read.
    """

    NAME = "read"
    NEEDS = SLICES
    ADDS = schema.columns(*(name for name in schema.READ.names if name != schema.URI))
    DROPS = frozenset(SLICES.names) - {schema.URI}

    def __init__(self, corpus: Corpus, done: frozenset[str]) -> None:
        self._corpus = corpus
        self._limits = Limits(corpus.max_pages, corpus.max_chars)
        self._done = done

    def __call__(self, unit: pa.Table) -> pa.Table:
        documents = [document for part in slices(unit) for document in self._read(part)]
        fresh = [document for document in documents if document[schema.DOCUMENT_ID] not in self._done]
        return pa.Table.from_pylist(fresh, schema.READ)

    def _read(self, part: Slice) -> Iterator[Row]:
        reader = document_reader(part.path)
        if isinstance(reader, DocumentReader):
            yield _document(part.path, part.listed_uri, _read_file(reader, part, self._limits))
            return
        corpus = self._corpus
        column = reader.text_column or corpus.text_column
        rows = _rows(reader, part, (column, corpus.id_column, corpus.title_column, *corpus.metadata_columns))
        texts = _texts(rows, column, _document_text)
        ids = ids_of(rows, corpus.id_column)
        titles = _column(rows, corpus.title_column)
        metadata = [_column(rows, name) for name in corpus.metadata_columns]
        for text, number, given, title, *values in zip(
            texts, rows[ROW].to_pylist(), ids, titles, *metadata, strict=True
        ):
            about = dict(zip(corpus.metadata_columns, values, strict=True))
            document = self._limits.checked(Document(text.text, text.error, title, metadata=about))
            yield _document(given or f"{part.path}#{number}", part.listed_uri, document)


class ReadPrompts(Stage):
    """Read units of the prompts. Each row of a file is one prompt; in a text file, each line.

    Beside `ADDS` there are the columns `passed`, which depend on the prompts and are for the answers alone.
    """

    NAME = "read"
    NEEDS = SLICES
    ADDS = schema.columns(schema.POSITION, schema.PROMPT_ID, schema.PROMPT, schema.ERROR)
    DROPS = frozenset(SLICES.names)

    def __init__(self, prompts: Prompts, passed: pa.Schema) -> None:
        self._prompts = prompts
        self._passed = passed

    def __call__(self, unit: pa.Table) -> pa.Table:
        return pa.concat_tables([self._read(part) for part in slices(unit)])

    def _read(self, part: Slice) -> pa.Table:
        reader = prompt_reader(part.path)
        rows = _rows(reader, part, None)
        prompts = _texts(rows, reader.text_column or self._prompts.prompt_column, _prompt_text)
        ids = [
            given or schema.digest(part.path, number, prompt.text)
            for given, number, prompt in zip(
                ids_of(rows, self._prompts.id_column), rows[ROW].to_pylist(), prompts, strict=True
            )
        ]
        columns = {
            schema.POSITION: pa.array(range(part.position, part.position + len(ids)), pa.int64()),
            schema.PROMPT_ID: pa.array(ids, pa.string()),
            schema.PROMPT: pa.array([prompt.text for prompt in prompts], pa.string()),
            schema.ERROR: pa.array([prompt.error for prompt in prompts], pa.string()),
        }
        return pa.table(columns | {field.name: _passed(rows, field) for field in self._passed})


def _rows(reader: TableReader, part: Slice, columns: tuple[str | None, ...] | None) -> pa.Table:
    wanted = columns and tuple(name for name in columns if name)
    rows = segment_rows(reader, part.uri, part.tag, part.group, wanted).slice(part.first, part.rows)
    try:
        return expanded(rows)
    except Unreadable as error:
        raise DataError(f"{part.uri}: {error}") from error


def _read_file(reader: DocumentReader, part: Slice, limits: Limits) -> Document:
    content = part.content()
    document = attempt(lambda: _decode(reader, content, limits))
    if isinstance(document, Exception):
        document = Document(None, row_error(document, part.path))
    file_metadata = {"path": part.path, "size": len(content)}  # come first, and no document states others
    return replace(document, metadata={**file_metadata, **document.metadata, **file_metadata})


def _decode(reader: DocumentReader, content: bytes, limits: Limits) -> Document:
    with foreign():
        return reader.read_within(content, limits)


def _document(name: str, uri: str, document: Document) -> Row:
    metadata = json.dumps(document.metadata, ensure_ascii=False) if document.metadata else None
    error = document.error
    if metadata and len(metadata) > MAX_METADATA_CHARS:  # each of its chunks carries it
        error = error or f"metadata has {len(metadata):,} characters, more than {MAX_METADATA_CHARS:,}; leave some out"
        metadata = None
    return {
        schema.DOCUMENT_ID: name,
        schema.URI: uri,
        schema.TEXT: document.text,
        schema.TITLE: " ".join((document.title or "").split())[:MAX_VALUE_CHARS] or None,
        schema.METADATA: metadata,
        schema.BLOCKS: [block._asdict() for block in document.blocks] or None,
        schema.ERROR: error,
    }


def _column(rows: pa.Table, name: str | None) -> list[Any]:
    """The values of a column as JSON has them; null where there is none, or no such column."""
    if not name or name not in rows.column_names:
        return [None] * rows.num_rows
    return json_values(rows[name])


def _texts(rows: pa.Table, column: str, decode: Callable[[bytes | None], Decoded]) -> list[Decoded]:
    """What stands in `column`, decoded, or the row's fault."""
    values = as_binary(rows[column]).to_pylist() if column in rows.column_names else [None] * rows.num_rows
    faults = rows[FAULT].to_pylist()
    return [Decoded(None, fault) if fault else decode(value) for value, fault in zip(values, faults, strict=True)]


def _document_text(value: bytes | None) -> Decoded:
    if value is None:
        return Decoded("", "text is null")
    document = decode_utf8(value, "text")
    return document if document.error or (document.text or "").strip() else Decoded("", "text is blank")


def _prompt_text(value: bytes | None) -> Decoded:
    if value is None:
        return Decoded(None, "prompt is null")
    prompt = decode_utf8(value, "prompt")
    text = prompt.text or ""
    if prompt.error:
        return prompt
    if not text.strip():
        return Decoded(text, "prompt is blank")
    if len(text) > MAX_TEXT_CHARS:
        return Decoded(text, f"prompt has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}; shorten it")
    return prompt


def _passed(rows: pa.Table, field: pa.Field) -> pa.Array:
    """The pass-through column of a file; null where the file has none."""
    if field.name not in rows.column_names:
        return pa.nulls(rows.num_rows, field.type)
    return convert(rows[field.name], field.type)
