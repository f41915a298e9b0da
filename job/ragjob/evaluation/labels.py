"""What is right for each prompt: labels, read from a table in any format that prompts can have."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from ragjob.documents.inputs import read_tables
from ragjob.documents.readers.base import FAULT, ROW
from ragjob.documents.tables import ids_of, is_plain
from ragjob.errors import DataError
from ragjob.ledger import schema

DOCUMENT_IDS, CHUNK_IDS, ANSWERS = "document_ids", "chunk_ids", "answers"


@dataclass(frozen=True)
class Label:
    """What is right for one prompt: ids of the relevant documents or chunks, and the accepted answers."""

    relevant: frozenset[str]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The labels of a file.

    Attributes:
        key: the column by which labels name prompts, `prompt_id` or `prompt`.
        relevant: what the relevant ids name, `document_ids` or `chunk_ids`.
        by_prompt: the label of each prompt.
    """

    key: str
    relevant: str
    by_prompt: dict[str, Label]


def read_labels(uri: str) -> Labels:
    """Read the labels at a uri: a file, a folder or a glob.

    Raises `DataError`, naming file and row, for labels that can't be read, lack a prompt, or label one twice.
    """
    tables = list(read_tables(uri, "--labels"))
    columns = {name for _, rows in tables for name in rows.column_names}
    if {DOCUMENT_IDS, CHUNK_IDS} <= columns:
        raise DataError(f"--labels: {uri} has both {DOCUMENT_IDS} and {CHUNK_IDS}; remove one of these columns")
    if not {DOCUMENT_IDS, CHUNK_IDS, ANSWERS} & columns:
        raise DataError(f"--labels: {uri} has none of the columns {DOCUMENT_IDS}, {CHUNK_IDS} and {ANSWERS}; add one")
    key = schema.PROMPT_ID if schema.PROMPT_ID in columns else schema.PROMPT
    relevant = CHUNK_IDS if CHUNK_IDS in columns else DOCUMENT_IDS
    places: dict[str, str] = {}
    by_prompt: dict[str, Label] = {}
    for file, rows in tables:
        for place, prompt, label in _labels(file, rows, key, relevant):
            if prompt in places:
                raise DataError(
                    f"--labels: {place} and {places[prompt]} have the same {key}, {prompt[:80]!r}; keep one of them"
                )
            places[prompt], by_prompt[prompt] = place, label
    return Labels(key, relevant, by_prompt)


def _labels(file: str, rows: pa.Table, key: str, relevant: str) -> Iterator[tuple[str, str, Label]]:
    """Where each label stands, its prompt, and what it says."""
    prompts = _prompts(file, rows, key)
    numbers, faults = rows[ROW].to_pylist(), rows[FAULT].to_pylist()
    ids, answers = _texts(file, rows, relevant), _texts(file, rows, ANSWERS)
    for number, fault, prompt, wanted, accepted in zip(numbers, faults, prompts, ids, answers, strict=True):
        place = f"row {number + 1} of {file}"
        if fault:
            raise DataError(f"--labels: {place}: {fault}; correct that row")
        if not prompt:
            raise DataError(f"--labels: {place} has no {key}; give each row one")
        yield place, prompt, Label(frozenset(wanted), accepted)


def _prompts(file: str, rows: pa.Table, key: str) -> list[str | None]:
    if key not in rows.column_names:
        has = ", ".join(name for name in rows.column_names if name not in (ROW, FAULT)) or "none"
        raise DataError(
            f"--labels: {file} names no prompts: it needs a column {schema.PROMPT_ID} or {schema.PROMPT}, "
            f"the same one in all label files; it has {has}"
        )
    if not is_plain(rows[key].type):
        raise DataError(f"--labels: column {key} of {file} holds {rows[key].type}; it must hold text or numbers")
    return _written(file, rows, key)


def _texts(file: str, rows: pa.Table, name: str) -> list[tuple[str, ...]]:
    """The texts in each cell of a column: a list, a JSON list, or one text. Blank ones are left out."""
    if name not in rows.column_names:
        return [()] * rows.num_rows
    column = rows[name]
    if is_plain(column.type):
        cells = [_listed(cell) for cell in _written(file, rows, name)]
    else:
        try:
            cells = column.cast(pa.list_(pa.string())).to_pylist()
        except pa.ArrowException as error:
            raise DataError(
                f"--labels: column {name} of {file} holds {column.type}; it must hold texts or lists of texts"
            ) from error
    return [tuple(text for text in cell or () if text and text.strip()) for cell in cells]


def _written(file: str, rows: pa.Table, name: str) -> list[str | None]:
    """A column of plain values as text."""
    try:
        return ids_of(rows, name)
    except ValueError as error:
        raise DataError(f"--labels: column {name} of {file} {error}; write them as text") from error


def _listed(cell: str | None) -> list[str]:
    """The texts of a cell that holds text: CSV has no lists, so a list is written as JSON there."""
    if cell and cell.lstrip().startswith("["):
        try:
            values = json.loads(cell)
        except ValueError:  # a text that begins with a bracket
            return [cell]
        return [value if isinstance(value, str) else json.dumps(value) for value in values if value is not None]
    return [cell] if cell else []
