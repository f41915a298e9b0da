"""What all stages share: add columns to the rows without an error, and single out the row that fails.

Beside what a stage states as NEEDS, each but the first needs and keeps `error`: string, null in a row that is fine.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job.errors import RagjobError
from job.schema import CACHED_TOKENS, ERROR

_COSTS = b"ragjob.costs"
_TOKENS = {"prompt_tokens": "prompt_tokens", "cached_tokens": CACHED_TOKENS}

Columns = list[pa.Array]
Compute = Callable[[pa.Table], Columns]


@dataclass(frozen=True)
class Cost:
    """What one stage did to one block: rows out, rows with an error, seconds of its worker, tokens it read.

    Of the `prompt_tokens`, `cached_tokens` had been computed before, for prompts that begin alike.
    """

    stage: str
    rows: int
    errors: int
    seconds: float
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, more: "Cost") -> "Cost":
        """Both together, of the same stage."""
        sums = {field.name: getattr(self, field.name) + getattr(more, field.name) for field in fields(Cost)[1:]}
        return Cost(self.stage, **sums)


def add_columns(rows: pa.Table, adds: pa.Schema, compute: Compute) -> pa.Table:
    """Append the columns that `compute` makes of the rows without an error; null in the others.

    A row that makes `compute` raise is found by halving, and gets the exception's message as its error.
    Errors of ours (`RagjobError`) concern the whole job and pass through.
    """
    good = pc.indices_nonzero(pc.is_null(rows[ERROR])).to_numpy()
    columns, faults = _isolate(rows.take(good), adds, compute)
    places = np.full(rows.num_rows, -1)
    places[good] = np.arange(len(good))
    picks = pa.array(places, mask=places < 0)
    for field, column in zip(adds, columns, strict=True):
        rows = rows.append_column(field, _plain(column).take(picks))
    fault = pa.array(faults, pa.string()).take(picks)
    return rows.set_column(rows.schema.get_field_index(ERROR), ERROR, pc.coalesce(rows[ERROR], fault))


def count_errors(rows: pa.Table) -> int:
    """Number of rows with an error."""
    return int(rows.num_rows - rows[ERROR].null_count)


def move_errors(rows: pa.Table, column: str) -> pa.Table:
    """Make what stands in `column` the errors of their rows, and drop it."""
    errors = pc.coalesce(rows[ERROR], rows[column])
    return rows.set_column(rows.schema.get_field_index(ERROR), ERROR, errors).drop_columns([column])


def cost(stage: str, rows: pa.Table, seconds: float) -> Cost:
    """What `stage` spent to give `rows`."""
    tokens = {name: _total(rows, column) for name, column in _TOKENS.items()}
    return Cost(stage, rows.num_rows, count_errors(rows), seconds, **tokens)


def _total(rows: pa.Table, column: str) -> int:
    return pc.sum(rows[column]).as_py() or 0 if column in rows.column_names else 0


def costs(rows: pa.Table) -> list[Cost]:
    """What each stage so far has spent on this block."""
    return [Cost(**cost) for cost in json.loads((rows.schema.metadata or {}).get(_COSTS, b"[]"))]


def with_costs(rows: pa.Table, spent: list[Cost]) -> pa.Table:
    """Note `spent` on the block; it travels in the schema's metadata."""
    return rows.replace_schema_metadata({_COSTS: json.dumps([asdict(cost) for cost in spent])})


def _isolate(rows: pa.Table, adds: pa.Schema, compute: Compute) -> tuple[Columns, list[str | None]]:
    if rows.num_rows == 0:
        return [pa.array([], field.type) for field in adds], []
    try:
        return compute(rows), [None] * rows.num_rows
    except RagjobError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model throws at a row is that row's error
        if rows.num_rows == 1:
            return [pa.nulls(1, field.type) for field in adds], [describe(error)]
    middle = rows.num_rows // 2
    first, first_faults = _isolate(rows.slice(0, middle), adds, compute)
    second, second_faults = _isolate(rows.slice(middle), adds, compute)
    halves = zip(first, second, strict=True)
    return [pa.concat_arrays([_plain(a), _plain(b)]) for a, b in halves], first_faults + second_faults


def describe(error: Exception) -> str:
    """One line of at most 300 characters for a row's `error`."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
