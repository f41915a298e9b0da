import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import DependencyError
from job.stages.rows import (
    Columns,
    Compute,
    Cost,
    add_columns,
    cost,
    costs,
    count_errors,
    describe,
    move_errors,
    with_costs,
)

ADDS = pa.schema([("double", pa.int64())])
POISONS = st.frozensets(st.integers(0, 29))


def rows(count: int, failed: frozenset[int] = frozenset()) -> pa.Table:
    errors = ["earlier" if number in failed else None for number in range(count)]
    return pa.table({"number": range(count), "error": pa.array(errors, pa.string())})


def doubling_all_but(poisons: frozenset[int]) -> Compute:
    def compute(batch: pa.Table) -> Columns:
        if poisons & set(batch["number"].to_pylist()):
            raise ValueError("no\n  double")
        return [pc.multiply(batch["number"], 2)]

    return compute


@given(st.integers(0, 30), POISONS, POISONS)
def test_exactly_the_poison_rows_get_an_error_and_all_rows_stay_in_place(
    count: int, poisons: frozenset[int], failed: frozenset[int]
) -> None:
    table = add_columns(rows(count, failed), ADDS, doubling_all_but(poisons - failed))
    expected = dict.fromkeys(poisons, (None, "ValueError: no double")) | dict.fromkeys(failed, (None, "earlier"))
    found = zip(table["double"].to_pylist(), table["error"].to_pylist(), strict=True)
    assert table["number"].to_pylist() == list(range(count))
    assert list(found) == [expected.get(number, (number * 2, None)) for number in range(count)]


def test_columns_are_added_behind_the_others_in_their_types() -> None:
    table = add_columns(rows(3), ADDS, doubling_all_but(frozenset()))
    assert table.schema == pa.schema([("number", pa.int64()), ("error", pa.string()), *ADDS])


def test_rows_with_an_error_arent_computed() -> None:
    seen: list[int] = []

    def compute(batch: pa.Table) -> Columns:
        seen.extend(batch["number"].to_pylist())
        return [batch["number"]]

    add_columns(rows(4, frozenset([0, 2])), ADDS, compute)
    assert seen == [1, 3]


def test_one_poison_row_among_a_thousand_is_found_by_halving() -> None:
    sizes: list[int] = []

    def compute(batch: pa.Table) -> Columns:
        sizes.append(batch.num_rows)
        return doubling_all_but(frozenset([500]))(batch)

    add_columns(rows(1024), ADDS, compute)
    assert len(sizes) == 21


def test_an_error_of_ours_concerns_the_whole_job() -> None:
    def compute(batch: pa.Table) -> Columns:
        raise DependencyError("chroma.url: gone")

    with pytest.raises(DependencyError, match=r"^chroma.url: gone$"):
        add_columns(rows(4), ADDS, compute)


def test_a_rows_error_is_one_line_of_at_most_300_characters() -> None:
    assert describe(ValueError("a\n\tb  c")) == "ValueError: a b c"
    assert len(describe(ValueError("x" * 1000))) == 300


def test_errors_are_counted() -> None:
    assert count_errors(rows(5, frozenset([1, 4]))) == 2


def test_messages_in_a_column_become_the_errors_of_rows_that_have_none() -> None:
    faulty = rows(3, frozenset([0])).append_column("fault", pa.array(["too late", "refused", None], pa.string()))
    moved = move_errors(faulty, "fault")
    assert moved["error"].to_pylist() == [rows(3, frozenset([0]))["error"][0].as_py(), "refused", None]
    assert moved.schema.names == rows(3).schema.names


def test_a_stages_cost_has_the_tokens_that_it_read() -> None:
    read = rows(3, frozenset([2])).append_column("prompt_tokens", pa.array([10, 20, None]))
    read = read.append_column("_cached_tokens", pa.array([0, 16, None]))
    assert cost("generate", read, 0.5) == Cost("generate", 3, 1, 0.5, prompt_tokens=30, cached_tokens=16)
    assert cost("read", rows(3), 0.5) == Cost("read", 3, 0, 0.5)


def test_costs_of_a_stage_add_up() -> None:
    assert Cost("a", 1, 2, 0.5, 3, 4) + Cost("a", 10, 20, 1.5, 30, 40) == Cost("a", 11, 22, 2.0, 33, 44)


def test_costs_travel_with_a_block() -> None:
    spent = [Cost("read", 2, 1, 0.5), Cost("chunk", 7, 1, 0.25)]
    assert costs(rows(2)) == []
    assert costs(add_columns(with_costs(rows(2), spent), ADDS, doubling_all_but(frozenset()))) == spent
