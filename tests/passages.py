"""Passages in memory, for tests that need no storage."""

import numpy as np
import pyarrow as pa

from ragjob import schema
from ragjob.ledger.passages import Passages


def row_id(number: int) -> str:
    """Id of the row with that number: as long as a digest, and in the order of the numbers."""
    return f"{number:0{schema.ID_CHARS}}"


def make_passages(vectors: np.ndarray) -> Passages:
    """One row for each of `vectors` (float32 [n, dimension]); row n is chunk `id-<n>`, `passage <n>`."""
    numbers = range(len(vectors))
    columns = {
        schema.CHUNK_ID: [f"id-{number:04}" for number in numbers],
        schema.DOCUMENT_ID: ["document"] * len(vectors),
        schema.URI: [f"uri-{number}" for number in numbers],
        schema.TEXT: [f"passage {number}" for number in numbers],
    }
    members = pa.array([[number] for number in numbers], pa.list_(pa.int32()))
    rows = pa.table({schema.ROW_ID: pa.array(map(row_id, numbers), pa.string()), schema.MEMBERS: members})
    return Passages([pa.RecordBatch.from_pydict(columns)], vectors.astype(np.float16), rows)
