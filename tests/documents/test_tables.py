from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from ragjob.documents.readers.base import Unreadable
from ragjob.documents.tables import as_binary, expanded, ids_of

TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_text_of_every_arrow_type_is_read(kind: pa.DataType) -> None:
    column = pa.chunked_array([pa.array(["a", None, "ü"]).cast(kind)])
    assert as_binary(column).to_pylist() == [b"a", None, "ü".encode()]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_ids_of_every_arrow_type_are_strings(kind: pa.DataType) -> None:
    assert ids_of(pa.table({"id": pa.array(["a", None]).cast(kind)}), "id") == ["a", None]


@pytest.mark.parametrize(
    ("ids", "strings"),
    [([1, 2], ["1", "2"]), ([1.0, 2.5], ["1", "2.5"]), ([True, None], ["true", None]), ([None, None], [None, None])],
)
def test_ids_that_arent_text_are_written_as_text(ids: list[object], strings: list[str | None]) -> None:
    assert ids_of(pa.table({"id": ids}), "id") == strings


@pytest.mark.parametrize("column", [None, "none"])
def test_rows_without_an_id_column_have_no_ids(column: str | None) -> None:
    assert ids_of(pa.table({"id": ["a"]}), column) == [None]


def test_an_id_that_isnt_utf8_shows_its_wrong_bytes() -> None:
    column = pa.StringArray.from_buffers(1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff"))
    assert ids_of(pa.table({"id": column}), "id") == ["a\ufffd"]


NAN = float("nan")


@pytest.mark.parametrize(
    ("ids", "strings"),
    [
        (pa.array([7.0, 2.0**52, 0.1, None, NAN]), ["7", "4503599627370496", "0.1", None, None]),
        (pa.array([7.0, 16777215.0], pa.float32()), ["7", "16777215"]),
        (pa.array([7.0, 0.5], pa.float16()), ["7", "0.5"]),
        (pa.array([2**53 + 1, -(2**63)]), ["9007199254740993", "-9223372036854775808"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([Decimal("12345678901234567890.10")]), ["12345678901234567890.10"]),
        (pa.array([datetime(2024, 2, 29, 1)], pa.timestamp("s")), ["2024-02-29 01:00:00"]),
    ],
    ids=["double", "float", "half", "int64", "uint64", "decimal", "timestamp"],
)
def test_an_id_is_its_value_to_the_last_digit_and_nan_is_none(ids: pa.Array, strings: list[str | None]) -> None:
    assert ids_of(pa.table({"id": ids}), "id") == strings


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pa.array([1.0, 2.0**53]), "holds floats too large to be exact"),
        (pa.array([1.0, -(2.0**24)], pa.float32()), "holds floats too large to be exact"),
        (pa.array([2**60], pa.timestamp("s")), "holds values that can't be written as text: .*out of range"),
    ],
)
def test_an_id_that_may_be_rounded_or_garbled_is_refused(ids: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ids_of(pa.table({"id": ids}), "id")


def test_texts_that_are_repeated_may_come_to_some_size_and_no_more() -> None:
    texts = pa.array(["x" * 1_000_000]).dictionary_encode()
    rows = pa.table({"a": pa.chunked_array([texts.take(pa.array([0] * 600))])})
    assert expanded(rows.slice(5, 60))["a"].to_pylist() == ["x" * 1_000_000] * 60
    with pytest.raises(Unreadable, match=r"600 rows repeat texts that come to 572 MiB; lower commit_rows, or .* in a$"):
        expanded(rows)


def test_texts_that_differ_may_come_to_any_size() -> None:
    texts = [str(number) * 500_000 for number in range(100, 160)]
    assert expanded(pa.table({"a": pa.array(texts).dictionary_encode()}))["a"].to_pylist() == texts
