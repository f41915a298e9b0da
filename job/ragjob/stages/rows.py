"""What all stages share: columns added to the rows without an error, the row that fails singled out, what it cost.

Two kinds of exceptions are told apart. Whatever a library raises at a row's data is that row's error: stages call
libraries inside `foreign()`. One of `DEFECTS` outside it is a mistake of ours, and ends the job.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragjob.errors import RagjobError
from ragjob.ledger.schema import CACHED_TOKENS, DOCUMENT_ID, ERROR, PROMPT_ID, PROMPT_TOKENS, WRONG_CITATIONS
from ragjob.stages.cost import Cost

# Raised by code that is wrong. Libraries raise these at odd data, too.
DEFECTS = (AssertionError, AttributeError, KeyError, NameError, TypeError)
TRACEBACK_CHARS = 8000  # of a row's error, its end
_RECEIPT = "ragjob.receipt"
_SUMMED = {"prompt_tokens": PROMPT_TOKENS, "cached_tokens": CACHED_TOKENS, "wrong_citations": WRONG_CITATIONS}

Columns = Mapping[str, pa.Array]
Compute = Callable[[pa.Table], Columns]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Fault:
    """Where a row's error came from: `row` is its prompt or document, `kind` the exception's name."""

    stage: str
    row: str
    kind: str
    error: str
    traceback: str


@dataclass(frozen=True)
class Receipt:
    """What the stages so far did to a block: what each spent, and its first fault of each kind."""

    costs: list[Cost] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        about = json.loads(text)
        return cls([Cost(**cost) for cost in about["costs"]], [Fault(**fault) for fault in about["faults"]])


class ForeignError(Exception):
    """Carries what a library raised at the data of rows."""

    def __init__(self, raised: Exception) -> None:
        super().__init__(raised)
        self.raised = raised


# The name of the stage that runs in this thread, and where to note its faults.
_noted: ContextVar[tuple[str, dict[str, Fault]] | None] = ContextVar("_noted", default=None)


@contextmanager
def foreign() -> Iterator[None]:
    """Call libraries with the data of rows in this block: what they raise is the error of a row, whatever it is."""
    try:
        yield
    except (RagjobError, ForeignError):
        raise
    except Exception as error:
        raise ForeignError(error) from error


def attempt(compute: Callable[[], Result]) -> Result | Exception:
    """What `compute` gives, or the exception that makes its rows fail. Raises a defect, and any error of ours."""
    try:
        return compute()
    except ForeignError as error:
        return error.raised
    except (RagjobError, *DEFECTS):
        raise
    except Exception as error:  # noqa: BLE001 - it may be the data, and one row must not take the job along
        return error


def row_error(error: Exception, row: str) -> str:
    """One line of at most 300 characters for the column `error` of `row`, whose fault is noted."""
    kind = type(error).__name__
    line = f"{kind}: {' '.join(str(error).split())}"[:300]
    noted = _noted.get()
    if noted and kind not in noted[1]:
        text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS:]
        noted[1][kind] = Fault(noted[0], row, kind, line, text)
    return line


@contextmanager
def noting_faults(stage: str) -> Iterator[Mapping[str, Fault]]:
    """The first fault of each kind that `row_error` meets while `stage` runs in the block."""
    faults: dict[str, Fault] = {}
    token = _noted.set((stage, faults))
    try:
        yield faults
    finally:
        _noted.reset(token)


def add_columns(rows: pa.Table, adds: pa.Schema, compute: Compute) -> pa.Table:
    """Append the columns `adds`, which `compute` makes by name of the rows without an error; null in the others.

    `compute` may give the column `error`, too, for rows that fail by themselves. A row that makes it raise is found
    by halving, and gets the exception as its error. Raises `TypeError` for columns other than `adds`.
    """
    good = pc.indices_nonzero(pc.is_null(rows[ERROR])).to_numpy()
    computed = _isolate(rows.take(good), adds.append(pa.field(ERROR, pa.string())), compute)
    places = np.full(rows.num_rows, -1)
    places[good] = np.arange(len(good))
    picks = pa.array(places, mask=places < 0)
    for column in adds:
        rows = rows.append_column(column, computed[column.name].combine_chunks().take(picks))
    errors = pc.coalesce(rows[ERROR], computed[ERROR].combine_chunks().take(picks))
    return rows.set_column(rows.schema.get_field_index(ERROR), ERROR, errors)


def arrays(values: Mapping[str, Sequence[object]], types: pa.Schema) -> Columns:
    """Columns of `values` in their types: some come from a library, which may give anything."""
    columns = [(name, column, types.field(name).type) for name, column in values.items()]
    with foreign():
        return {name: pa.array(column, kind) for name, column, kind in columns}


def count_errors(rows: pa.Table) -> int:
    """Number of rows with an error."""
    return int(rows.num_rows - rows[ERROR].null_count)


def cost(stage: str, rows: pa.Table, seconds: float) -> Cost:
    """What `stage` spent to give `rows`."""
    sums = {name: _total(rows, column) for name, column in _SUMMED.items()}
    return Cost(stage, rows.num_rows, count_errors(rows), seconds, **sums)


def receipt_of(rows: pa.Table) -> Receipt:
    """What the stages so far did to this block."""
    text = (rows.schema.metadata or {}).get(_RECEIPT.encode())
    return Receipt.from_json(text) if text else Receipt()


def with_receipt(rows: pa.Table, receipt: Receipt) -> pa.Table:
    """Note `receipt` on the block; it travels in the schema's metadata."""
    return rows.replace_schema_metadata({_RECEIPT: receipt.to_json()})


def _total(rows: pa.Table, column: str) -> int:
    return pc.sum(rows[column]).as_py() or 0 if column in rows.column_names else 0


def _isolate(rows: pa.Table, adds: pa.Schema, compute: Compute) -> pa.Table:
    """The columns `adds`, ERROR among them, of rows that have no error yet."""
    if rows.num_rows == 0:
        return adds.empty_table()
    computed = attempt(lambda: _checked(compute(rows), adds, rows.num_rows))
    if not isinstance(computed, Exception):
        return computed
    if rows.num_rows == 1:
        return pa.Table.from_pylist([{ERROR: row_error(computed, _name_of(rows))}], adds)
    middle = rows.num_rows // 2
    halves = (rows.slice(0, middle), rows.slice(middle))
    return pa.concat_tables([_isolate(half, adds, compute) for half in halves])


def _checked(columns: Columns, adds: pa.Schema, count: int) -> pa.Table:
    columns = {ERROR: pa.nulls(count, pa.string())} | dict(columns)
    given = {name: (column.type, len(column)) for name, column in columns.items()}
    stated = {column.name: (column.type, count) for column in adds}
    if given != stated:
        raise TypeError(f"computed columns {given}, must be {stated}")
    return pa.table([columns[name] for name in adds.names], schema=adds)


def _name_of(row: pa.Table) -> str:
    """What a user knows the row by: its prompt's id or its document's."""
    names = [name for name in (PROMPT_ID, DOCUMENT_ID) if name in row.column_names]
    return str(row[names[0]][0]) if names else ""
