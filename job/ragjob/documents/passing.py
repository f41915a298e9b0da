"""The columns of prompts that pass through to the answers: each gets one type that holds every file's values."""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from ragjob.documents.readers import prompt_reader
from ragjob.documents.readers.base import Segment, segment_rows
from ragjob.documents.tables import convert, is_text, leaves
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.storage.names import Entry

ROWS_AT_ONCE = 256  # are converted, for a try
_EXTENSION = b"ARROW:extension:name"
_VIEWED = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}  # Arrow can't pick rows of views


def passing(entry: Entry, columns: Iterable[pa.Field]) -> pa.Schema:
    """The pass-through columns of one file, without metadata.

    Raises `DataError` for an extension type: reading its values may run code that they contain.
    """
    for column in columns:
        if name := _extension(column):
            raise DataError(
                f"prompts.uri: column {column.name!r} of {entry.uri} has the extension type {name}, which can't pass "
                "through; write plain values, or leave it out"
            )
    return pa.schema([_plain(column) for column in columns])


def common_columns(files: Mapping[Entry, pa.Schema], segments: list[Segment]) -> pa.Schema:
    """The columns of all files, each of a type that holds every value exactly, or as text.

    Reads the columns whose types differ, and no others. Raises `DataError` for a column without such a type, and for
    one with the name of an answer column.
    """
    names = dict.fromkeys(name for columns in files.values() for name in columns.names)
    for name in names:
        if name in schema.RESERVED:
            raise DataError(f"prompts.uri: column {name!r} has the same name as an answer column; rename it")
    return pa.schema([(name, _common_type(name, files, segments)) for name in names])


def _common_type(name: str, files: Mapping[Entry, pa.Schema], segments: list[Segment]) -> pa.DataType:
    kinds = {entry: columns.field(name).type for entry, columns in files.items() if name in columns.names}
    kinds = {entry: kind for entry, kind in kinds.items() if not pa.types.is_null(kind)}
    distinct = list(dict.fromkeys(kinds.values()))
    if len(distinct) < 2:
        return distinct[0] if distinct else pa.null()
    for candidate in _candidates(distinct):
        differing = [segment for segment in segments if kinds.get(segment.entry, candidate) != candidate]
        if all(_fits(part, candidate) for segment in differing for part in _parts(segment, name)):
            return candidate
    holds = " and ".join(f"{kind} in {_first(kinds, kind).uri}" for kind in distinct[:2])
    raise DataError(
        f"prompts.uri: column {name!r} holds {holds}, and no single type can hold both; write it with one type"
    )


def _candidates(kinds: list[pa.DataType]) -> Iterator[pa.DataType]:
    """Types to try, the best first."""
    inner = [leaf for kind in kinds for leaf in leaves(kind)]
    rounds = any(map(pa.types.is_decimal, inner)) and any(map(pa.types.is_floating, inner))
    try:
        one_column = [pa.schema([("", kind)]) for kind in kinds]
        common = pa.unify_schemas(one_column, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        common = None
    if common is not None and not rounds:
        yield common
        yield from () if is_text(common) or pa.types.is_nested(common) else kinds
    yield pa.string()


def _fits(part: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        convert(part, kind)
    except (ValueError, pa.ArrowException):
        return False
    return True


def _parts(segment: Segment, name: str) -> Iterator[pa.ChunkedArray]:
    entry = segment.entry
    column = segment_rows(prompt_reader(entry.path), entry.uri, entry.tag, segment.group, (name,))[name]
    return (column.slice(first, ROWS_AT_ONCE) for first in range(0, len(column), ROWS_AT_ONCE))


def _first(kinds: Mapping[Entry, pa.DataType], kind: pa.DataType) -> Entry:
    return next(entry for entry, present in kinds.items() if present == kind)


def _extension(field: pa.Field) -> str | None:
    """The name of an extension type in a field, whether this process knows the type or not."""
    if isinstance(field.type, pa.BaseExtensionType):
        return str(field.type.extension_name)
    if field.metadata and _EXTENSION in field.metadata:
        return str(field.metadata[_EXTENSION].decode("utf-8", "replace"))
    return next(filter(None, map(_extension, _inner(field.type))), None)


def _plain(field: pa.Field) -> pa.Field:
    """A field without metadata, at any depth, and of the type that its values are given in."""
    kind = field.type
    inner = [_plain(child) for child in _inner(kind)]
    if pa.types.is_dictionary(kind):
        kind = inner[0].type
    elif pa.types.is_struct(kind):
        kind = pa.struct(inner)
    elif pa.types.is_map(kind):
        key, value = inner[0].type.fields
        kind = pa.map_(key.with_nullable(False), value, keys_sorted=kind.keys_sorted)
    elif pa.types.is_fixed_size_list(kind):
        kind = pa.list_(inner[0], kind.list_size)
    elif pa.types.is_list(kind):
        kind = pa.list_(inner[0])
    elif pa.types.is_large_list(kind):
        kind = pa.large_list(inner[0])
    return pa.field(field.name, _VIEWED.get(kind, kind))


def _inner(kind: pa.DataType) -> list[pa.Field]:
    """The fields of what lists, objects and dictionaries of this type hold."""
    if pa.types.is_dictionary(kind):
        return [pa.field("", kind.value_type)]
    return [kind.field(at) for at in range(kind.num_fields)]
