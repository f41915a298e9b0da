import pyarrow as pa
import pytest

from ragjob.documents.readers.base import FAULT, ROW
from ragjob.errors import DataError
from tests.conftest import parquet
from tests.documents.readers.conftest import Decode


def test_rows_are_given_in_order(decode: Decode) -> None:
    rows = decode("x.parquet", parquet(pa.table({"prompt": ["a", "b"], "n": ["1", "2"]})), group=0)
    assert rows.select(["prompt", "n"]).to_pydict() == {"prompt": ["a", "b"], "n": ["1", "2"]}
    assert rows[FAULT].null_count == 2


def test_a_row_keeps_its_number_in_the_file_whatever_its_row_group(decode: Decode) -> None:
    content = parquet(pa.table({"prompt": list("abcde")}), rows=2)
    assert [decode("x.parquet", content, group)[ROW].to_pylist() for group in range(3)] == [[0, 1], [2, 3], [4]]


def test_only_the_columns_asked_for_are_read_from_parquet(decode: Decode) -> None:
    content = parquet(pa.table({"prompt": ["a"], "n": [1]}))
    assert decode("x.parquet", content, 0, ("n", "none")).column_names == ["n", ROW, FAULT]


@pytest.mark.parametrize("content", [b"PAR1", parquet(pa.table({"prompt": ["a"]}))[:-9]], ids=["begun", "cut"])
def test_a_file_that_cant_be_read_is_named(decode: Decode, content: bytes) -> None:
    with pytest.raises(DataError, match=r"/x\.parquet: can't be read: .*; mend the file$"):
        decode("x.parquet", content, group=0)
