"""Chunks and passages in memory, for tests that embed nothing."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.ledger.passages import Passage, Passages


def row_id(number: int) -> str:
    """Id of the row with that number: as long as a digest, and in the order of the numbers."""
    return f"{number:0{schema.ID_CHARS}}"


def make_passage(chunk_id: str, text: str = "text", equals: int = 1) -> Passage:
    """A passage without a title, a page or metadata."""
    return Passage(chunk_id, "document", "uri", text, equals=equals)


def make_passages(vectors: np.ndarray, metadata: Sequence[object] | None = None, share: int = 1) -> Passages:
    """Chunk n is `id-<n>`, `passage <n>`, and has one of `vectors` (float32 [n, dimension]) and of `metadata`.

    Each row has `share` chunks.
    """
    numbers = range(len(vectors))
    columns = {
        schema.CHUNK_ID: [f"id-{number:04}" for number in numbers],
        schema.DOCUMENT_ID: ["document"] * len(vectors),
        schema.URI: [f"uri-{number}" for number in numbers],
        schema.TEXT: [f"passage {number}" for number in numbers],
        schema.METADATA: [value if value is None else json.dumps(value) for value in metadata or [None] * len(vectors)],
    }
    chunks = pa.Table.from_pydict(
        {name: columns.get(name, [None] * len(vectors)) for name in schema.CHUNKS.names}, schema.CHUNKS
    )
    members = pa.array([list(numbers[first : first + share]) for first in numbers[::share]], pa.list_(pa.int32()))
    rows = pa.table({schema.ROW_ID: pa.array(map(row_id, range(len(members))), pa.string()), schema.MEMBERS: members})
    return Passages(chunks.to_batches(), vectors.astype(np.float16), rows)


def make_chunks(texts: Sequence[str], vectors: np.ndarray, **others: Sequence[object]) -> pa.Table:
    """Chunks with these texts and `vectors` (float32 [n, dimension]), each of a document of its own.

    `others` are columns in the place of what stands here.
    """
    count, dimension = vectors.shape
    nulls = {name: [None] * count for name in schema.CHUNKS.names}
    columns = nulls | {
        schema.CHUNK_ID: [f"chunk-{number:05}" for number in range(count)],
        schema.DOCUMENT_ID: [f"document-{number:05}" for number in range(count)],
        schema.URI: ["uri"] * count,
        schema.CHUNK_INDEX: [0] * count,
        schema.TEXT: texts,
        **{
            name: [None] * count
            for name in (schema.CONTEXT, schema.TITLE, schema.HEADING, schema.PAGE, schema.METADATA)
        },
        schema.SHORT_COUNT: [0] * count,
        schema.UNKNOWN_SHARE: [0.0] * count,
        schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
    }
    return pa.table(columns | others, pa.schema([*schema.CHUNKS, *schema.embedded(dimension)]))
