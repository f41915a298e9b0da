import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.errors import DependencyError
from ragjob.stages.rows import (
    DEFECTS,
    Columns,
    Compute,
    Cost,
    Fault,
    Receipt,
    add_columns,
    arrays,
    attempt,
    cost,
    count_errors,
    foreign,
    noting_faults,
    receipt_of,
    row_error,
    with_receipt,
)

ADDS = pa.schema([("double", pa.int64())])
POISONS = st.frozensets(st.integers(0, 29))


def rows(count: int, failed: frozenset[int] = frozenset()) -> pa.Table:
    errors = ["earlier" if number in failed else None for number in range(count)]
    return pa.table({"number": range(count), "error": pa.array(errors, pa.string())})


def double(batch: pa.Table) -> Columns:
    return {"double": pc.multiply(batch["number"], 2)}


def doubling_all_but(poisons: frozenset[int], error: Exception | None = None) -> Compute:
    def compute(batch: pa.Table) -> Columns:
        with foreign():
            if poisons & set(batch["number"].to_pylist()):
                raise error or ValueError("no\n  double")
        return double(batch)

    return compute


def raising(error: Exception) -> Compute:
    def compute(batch: pa.Table) -> Columns:
        raise error

    return compute


# Which rows fail


@given(st.integers(0, 30), POISONS, POISONS)
def test_exactly_the_poison_rows_get_an_error_and_all_rows_stay_in_place(
    count: int, poisons: frozenset[int], failed: frozenset[int]
) -> None:
    table = add_columns(rows(count, failed), ADDS, doubling_all_but(poisons - failed))
    expected = dict.fromkeys(poisons, (None, "ValueError: no double")) | dict.fromkeys(failed, (None, "earlier"))
    doubled = zip(table["double"].to_pylist(), table["error"].to_pylist(), strict=True)
    assert table["number"].to_pylist() == list(range(count))
    assert list(doubled) == [expected.get(number, (number * 2, None)) for number in range(count)]


def test_columns_are_added_behind_the_others_in_their_types() -> None:
    table = add_columns(rows(3), ADDS, double)
    assert table.schema == pa.schema([("number", pa.int64()), ("error", pa.string()), *ADDS])


def test_rows_with_an_error_arent_computed() -> None:
    seen: list[int] = []

    def compute(batch: pa.Table) -> Columns:
        seen.extend(batch["number"].to_pylist())
        return double(batch)

    add_columns(rows(4, frozenset([0, 2])), ADDS, compute)
    assert seen == [1, 3]


def test_one_poison_row_among_a_thousand_is_found_by_halving() -> None:
    sizes: list[int] = []

    def compute(batch: pa.Table) -> Columns:
        sizes.append(batch.num_rows)
        return doubling_all_but(frozenset([500]))(batch)

    add_columns(rows(1024), ADDS, compute)
    assert len(sizes) == 21


def test_errors_that_are_computed_become_those_of_their_rows() -> None:
    def compute(batch: pa.Table) -> Columns:
        errors = ["refused" if number == 2 else None for number in batch["number"].to_pylist()]
        return {**double(batch), "error": pa.array(errors, pa.string())}

    table = add_columns(rows(4, frozenset([0])), ADDS, compute)
    assert table["error"].to_pylist() == ["earlier", None, "refused", None]
    assert table.schema.names == ["number", "error", "double"]


def test_an_error_of_ours_concerns_the_whole_job() -> None:
    with pytest.raises(DependencyError, match=r"^chroma.url: gone$"):
        add_columns(rows(4), ADDS, raising(DependencyError("chroma.url: gone")))


# Errors of rows, and defects


@pytest.mark.parametrize("kind", [*DEFECTS, ValueError, RuntimeError])
def test_whatever_a_library_raises_at_a_row_is_that_rows_error(kind: type[Exception]) -> None:
    table = add_columns(rows(3), ADDS, doubling_all_but(frozenset([1]), kind("odd")))
    assert [bool(error) for error in table["error"].to_pylist()] == [False, True, False]
    assert table["error"][1].as_py().startswith(kind.__name__)


@pytest.mark.parametrize("kind", DEFECTS)
def test_an_exception_outside_a_library_that_only_a_bug_causes_passes_through(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="bug"):
        add_columns(rows(3), ADDS, raising(kind("bug")))


def test_another_exception_outside_a_library_is_the_rows_error() -> None:
    assert add_columns(rows(2), ADDS, raising(OverflowError("too many")))["error"].to_pylist() == [
        "OverflowError: too many",
        "OverflowError: too many",
    ]


def test_an_error_of_ours_in_a_library_concerns_the_whole_job() -> None:
    with pytest.raises(DependencyError, match=r"^chroma.url: gone$"), foreign():
        raise DependencyError("chroma.url: gone")


def test_what_was_raised_in_nested_calls_of_libraries_is_the_rows_error() -> None:
    def compute() -> None:
        with foreign(), foreign():
            raise KeyError("odd")

    error = attempt(compute)
    assert (type(error), str(error)) == (KeyError, "'odd'")


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"triple": pa.array([1, 2], pa.int64())},
        {"double": pa.array([1, 2], pa.int32())},
        {"double": pa.array([1], pa.int64())},
        {"double": pa.array([1, 2], pa.int64()), "triple": pa.array([1, 2], pa.int64())},
    ],
    ids=["missing", "misnamed", "type", "length", "more"],
)
def test_columns_other_than_those_to_add_are_a_bug(columns: Columns) -> None:
    with pytest.raises(TypeError, match=r"computed columns .*, must be .*double"):
        add_columns(rows(2), ADDS, lambda batch: columns)


def test_values_from_a_library_that_a_column_cant_hold_are_the_rows_error() -> None:
    def compute(batch: pa.Table) -> Columns:
        values = [number if number != 1 else "one" for number in batch["number"].to_pylist()]
        return arrays({"double": values}, ADDS)

    table = add_columns(rows(3), ADDS, compute)
    assert table["double"].to_pylist() == [0, None, 2]
    assert table["error"][1].as_py().startswith("ArrowInvalid: Could not convert 'one'")


def test_a_rows_error_is_one_line_of_at_most_300_characters() -> None:
    assert row_error(ValueError("a\n\tb  c"), "1") == "ValueError: a b c"
    assert len(row_error(ValueError("x" * 1000), "1")) == 300


# Faults


@pytest.mark.parametrize(
    ("names", "row"),
    [({"prompt_id": "p"}, "p"), ({"document_id": "d", "chunk_id": "c"}, "d"), ({}, "")],
    ids=["prompt", "chunk", "neither"],
)
def test_a_fault_has_the_row_as_users_know_it_and_the_traceback(names: dict[str, str], row: str) -> None:
    table = rows(1)
    for name, value in names.items():
        table = table.append_column(name, [[value]])
    with noting_faults("embed") as faults:
        add_columns(table, ADDS, doubling_all_but(frozenset([0])))
    fault = faults["ValueError"]
    assert (fault.stage, fault.row, fault.error) == ("embed", row, "ValueError: no double")
    assert re.search(r'test_rows.py", line \d+, in compute\n    raise error or ValueError', fault.traceback)
    assert "ForeignError" not in fault.traceback


def test_the_first_fault_of_each_kind_is_noted() -> None:
    with noting_faults("embed") as faults:
        for number, kind in enumerate([ValueError, KeyError, ValueError]):
            row_error(kind("odd"), str(number))
    assert [(fault.kind, fault.row) for fault in faults.values()] == [("ValueError", "0"), ("KeyError", "1")]


def test_a_long_traceback_keeps_its_end() -> None:
    with noting_faults("embed") as faults:
        row_error(ValueError("x" * 100_000 + "!"), "1")
    assert (len(faults["ValueError"].traceback), faults["ValueError"].traceback[-2:]) == (8000, "!\n")


# Costs and receipts


def test_errors_are_counted() -> None:
    assert count_errors(rows(5, frozenset([1, 4]))) == 2


def test_a_stages_cost_has_the_tokens_that_it_read() -> None:
    read = rows(3, frozenset([2])).append_column("prompt_tokens", pa.array([10, 20, None]))
    read = read.append_column("_cached_tokens", pa.array([0, 16, None]))
    read = read.append_column("_wrong_citations", pa.array([1, 2, None]))
    summed = Cost("generate", 3, 1, 0.5, prompt_tokens=30, cached_tokens=16, wrong_citations=3)
    assert cost("generate", read, 0.5) == summed
    assert cost("read", rows(3), 0.5) == Cost("read", 3, 0, 0.5)


def test_costs_of_a_stage_add_up() -> None:
    assert Cost("a", 1, 2, 0.5, 3, 4) + Cost("a", 10, 20, 1.5, 30, 40) == Cost("a", 11, 22, 2.0, 33, 44)


def test_a_receipt_travels_with_a_block() -> None:
    costs = [Cost("read", 2, 1, 0.5), Cost("chunk", 7, 1, 0.25)]
    receipt = Receipt(costs, [Fault("chunk", "a.md", "KeyError", "KeyError: 'a'", "Traceback ...\n")])
    assert receipt_of(rows(2)) == Receipt()
    assert receipt_of(add_columns(with_receipt(rows(2), receipt), ADDS, double)) == receipt
