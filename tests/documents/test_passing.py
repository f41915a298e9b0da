"""What passes through from prompts to answers when the types of their files differ."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.inputs import list_prompts
from ragjob.documents.settings import Prompts
from ragjob.documents.units import Inputs, plan_slices, scan_prompts
from ragjob.errors import DataError
from ragjob.stages.read import ReadPrompts
from tests.conftest import WriteFiles, parquet

PROMPTS = Prompts()
BIG = 2**53 + 1
FAR, NEAR = datetime(9999, 12, 31), datetime(2024, 1, 1)
MILLIS, NANOS, ZONED = pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("ms", "UTC")
MERGED = pa.struct([("a", pa.int64()), ("b", pa.string())])
FINE = Decimal("0.123456789012345678901234567890")


def file(column: pa.Array) -> bytes:
    """A file of prompts with the column x beside them."""
    return parquet(pa.table({"prompt": ["why?"] * len(column), "x": column}))


def read(inputs: Inputs) -> list[Any]:
    """The values of column x of all prompts, read a row at a time."""
    stage = ReadPrompts(PROMPTS, inputs.passed)
    units = plan_slices(inputs.segments, 1, 1)
    return list(pa.concat_tables([stage(unit) for unit in units])["x"].to_pylist())


@pytest.mark.parametrize(
    ("first", "other", "kind", "values"),
    [
        (pa.array([1, BIG]), pa.array([2.5, None]), pa.string(), ["1", str(BIG), "2.5", None]),
        (pa.array([1, BIG]), pa.array([7.0, None]), pa.int64(), [1, BIG, 7, None]),
        (pa.array([1, BIG]), pa.array([float("nan")]), pa.string(), ["1", str(BIG), "nan"]),
        (pa.array([1, 2]), pa.array([2.5]), pa.float64(), [1.0, 2.0, 2.5]),
        (pa.array([2**63], pa.uint64()), pa.array([-1]), pa.string(), [str(2**63), "-1"]),
        (pa.array([1], pa.uint64()), pa.array([-1]), pa.int64(), [1, -1]),
        (pa.array([1], pa.int8()), pa.array([BIG]), pa.int64(), [1, BIG]),
        (pa.array([BIG]), pa.array([0.5], pa.float32()), pa.string(), [str(BIG), "0.5"]),
        (pa.array([FAR], MILLIS), pa.array([NEAR], NANOS), MILLIS, [FAR, NEAR]),
        (pa.array([FAR], MILLIS), pa.array([1], NANOS), pa.string(), [f"{FAR}.000", "1970-01-01 00:00:00.000000001"]),
        (pa.array([NEAR], MILLIS), pa.array([date(2024, 1, 2)]), pa.string(), [f"{NEAR}.000", "2024-01-02"]),
        (pa.array([NEAR], MILLIS), pa.array([NEAR], ZONED), pa.string(), [f"{NEAR}.000", f"{NEAR}.000Z"]),
        (pa.array([Decimal("0.10")]), pa.array([0.5]), pa.string(), ["0.10", "0.5"]),
        (pa.array([Decimal("0.10")]), pa.array([3]), pa.string(), ["0.10", "3"]),
        (pa.array([2**62]), pa.array([FINE]), pa.string(), [str(2**62), str(FINE)]),
        (pa.array(["a"], pa.dictionary(pa.int8(), pa.string())), pa.array(["b"]), pa.string(), ["a", "b"]),
        (pa.array([1], pa.dictionary(pa.int8(), pa.int64())), pa.array([2]), pa.int64(), [1, 2]),
        (pa.array(["a"], pa.large_string()), pa.array(["b"]), pa.large_string(), ["a", "b"]),
        (pa.array([True]), pa.array([1]), pa.string(), ["true", "1"]),
        (pa.array([{"a": 1}]), pa.array(["b"]), pa.string(), ['{"a": 1}', "b"]),
        (pa.array([{"a": 1}]), pa.array([{"b": "x"}]), MERGED, [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        (pa.array([[1, 2]]), pa.array([[0.5]]), pa.list_(pa.float64()), [[1.0, 2.0], [0.5]]),
        (pa.array([[BIG]]), pa.array([[0.5]]), pa.string(), [f"[{BIG}]", "[0.5]"]),
        (pa.array([None]), pa.array([None]), pa.null(), [None, None]),
    ],
)  # fmt: skip
def test_a_column_of_two_types_keeps_every_value_exactly(
    write_files: WriteFiles, first: pa.Array, other: pa.Array, kind: pa.DataType, values: list[object]
) -> None:
    inputs = scan_prompts(write_files({"a.parquet": file(first), "b.parquet": file(other)}), PROMPTS)
    assert inputs.passed.field("x").type == kind
    assert read(inputs) == values


def test_the_types_of_all_formats_come_together(write_files: WriteFiles) -> None:
    inputs = scan_prompts(
        write_files(
            {
                "a.jsonl": b'{"prompt": "why?", "x": 7}',
                "b.jsonl": b'{"prompt": "why?", "x": "b"}',
                "c.csv": b"prompt,x\nwhy?,007\n",
                "d.json": b'[{"prompt": "why?", "x": {"y": [1.5]}}]',
                "e.txt": b"why?\n",
            }
        ),
        PROMPTS,
    )
    assert read(inputs) == ["7", "b", "007", '{"y": [1.5]}', None]


@pytest.mark.parametrize(
    ("first", "other", "types"),
    [
        (pa.array([2**60], MILLIS), pa.array([1], NANOS), r"timestamp\[ms\].* and timestamp\[ns\]"),
        (pa.array([2**60], MILLIS), pa.array(["a"]), r"timestamp\[ms\].* and string"),
        (pa.array([1], pa.duration("s")), pa.array(["a"]), r"duration\[s\].* and string"),
        (pa.array([b"\xff"], pa.binary(1)), pa.array([1]), r"fixed_size_binary\[1\].* and int64"),
    ],
)
def test_types_that_no_other_type_holds_are_refused_naming_column_and_files(
    write_files: WriteFiles, first: pa.Array, other: pa.Array, types: str
) -> None:
    entries = write_files({"a.parquet": file(first), "b.parquet": file(other)})
    one, two = types.split(".* and ")
    holds = f"holds {one} in .*/a.parquet and {two} in .*/b.parquet"
    message = f"^prompts.uri: column 'x' {holds}, and no single type can hold both.*"
    with pytest.raises(DataError, match=message):
        scan_prompts(entries, PROMPTS)


VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.integers(2**63, 2**64 - 1), min_size=1, max_size=3),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.lists(st.datetimes(), min_size=1, max_size=3),
    st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-999, max_value=999), min_size=1),
)


@given(VALUES, VALUES)
def test_numbers_of_any_two_files_are_told_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, first: list[Any], other: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("drift")
    (folder / "a.parquet").write_bytes(file(pa.array(first, kind_of(first))))
    (folder / "b.parquet").write_bytes(file(pa.array(other, kind_of(other))))
    values = read(scan_prompts(list_prompts(str(folder)).entries, PROMPTS))
    assert [same(*pair) for pair in zip(values, [*first, *other], strict=True)] == [True] * len(values)


def kind_of(values: list[Any]) -> pa.DataType | None:
    return pa.uint64() if type(values[0]) is int and max(values) >= 2**63 else None


def same(passed: object, given: object) -> bool:
    """Tell whether a value, or what its text says, is the one that was given."""
    parse: dict[type, Callable[[Any], object]] = {
        datetime: datetime.fromisoformat,
        bool: {"true": True, "false": False}.get,
    }
    return passed == given or parse.get(type(given), type(given))(passed) == given


class Pickled(pa.ExtensionType):
    """As Ray's type of pickled objects is."""

    def __init__(self) -> None:
        super().__init__(pa.binary(), "tests.pickled")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Pickled":
        return cls()


@pytest.fixture
def registered() -> Iterator[None]:
    """Arrow knows the type, as it does once Ray is imported."""
    pa.register_extension_type(Pickled())
    yield
    pa.unregister_extension_type("tests.pickled")


PICKLED = pa.ExtensionArray.from_storage(Pickled(), pa.array([b"code"]))
EXTENSIONS = {
    "column": PICKLED,
    "list": pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), PICKLED),
    "object": pa.StructArray.from_arrays([PICKLED], names=["y"]),
    "uuid": pa.array([b"0" * 16], pa.uuid()),
}


@pytest.mark.parametrize("column", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extension_type_that_arrow_doesnt_know_is_refused(write_files: WriteFiles, column: pa.Array) -> None:
    message = (
        "^prompts.uri: column 'x' of .*/a.parquet has the extension type (tests.pickled|arrow.uuid), which can't .*"
    )
    with pytest.raises(DataError, match=message):
        scan_prompts(write_files({"a.parquet": file(column)}), PROMPTS)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("column", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extension_type_that_arrow_knows_is_refused(write_files: WriteFiles, column: pa.Array) -> None:
    with pytest.raises(DataError, match=r"^prompts.uri: column 'x' of .*/a.parquet has the extension type .*"):
        scan_prompts(write_files({"a.parquet": file(column)}), PROMPTS)


def test_metadata_of_columns_passes_through_at_no_depth(write_files: WriteFiles) -> None:
    inner = pa.field("y", pa.int64(), metadata={"spam": "eggs"})
    kinds = [pa.struct([inner]), pa.list_(inner), pa.large_list(inner), pa.map_(pa.string(), inner), pa.list_(inner, 1)]
    values = [{"y": 1}, [1], [1], [("k", 1)], [1]]
    fields = [pa.field(str(at), kind, metadata={"spam": "eggs"}) for at, kind in enumerate(kinds)]
    columns = [pa.array([value], kind) for value, kind in zip(values, kinds, strict=True)]
    table = pa.table([pa.array(["why?"]), *columns], pa.schema([("prompt", pa.string()), *fields]))
    inputs = scan_prompts(write_files({"a.parquet": parquet(table)}), PROMPTS)
    assert "spam" not in inputs.passed.to_string(show_field_metadata=True)
    assert inputs.passed.types == kinds
    (unit,) = plan_slices(inputs.segments, 1, 1)
    assert ReadPrompts(PROMPTS, inputs.passed)(unit).select(["0", "1"]).to_pylist() == [{"0": {"y": 1}, "1": [1]}]
