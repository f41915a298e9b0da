import pyarrow as pa
import pytest

from ragjob.documents.tables import as_binary, ids_of

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
