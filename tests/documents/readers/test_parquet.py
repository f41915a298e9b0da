import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.documents.readers.base import FAULT, ROW
from ragjob.documents.readers.parquet import Parquet
from ragjob.errors import DataError
from tests.conftest import WriteFiles, parquet
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
    with pytest.raises(DataError, match=r"/x\.parquet: can't be read: .*; repair the file$"):
        decode("x.parquet", content, group=0)


LONG = "x" * 1_000_000


def test_text_that_is_stored_once_is_decoded_once(decode: Decode) -> None:
    rows = decode("x.parquet", parquet(pa.table({"prompt": [LONG] * 100})), group=0)
    assert rows.num_rows == 100
    assert rows.nbytes < 2_000_000


@pytest.mark.parametrize(
    ("value", "kind"),
    [([LONG], pa.list_(pa.string())), ({"y": LONG}, pa.struct([("y", pa.string())])), (LONG, pa.binary(len(LONG)))],
    ids=["list", "object", "fixed"],
)
def test_values_that_cant_be_decoded_once_are_refused(decode: Decode, value: object, kind: pa.DataType) -> None:
    content = parquet(pa.table({"prompt": ["a"] * 100, "x": pa.array([value] * 100, kind)}))
    with pytest.raises(DataError, match=r"/x.parquet: [\d,]+ bytes unpack to more than 100 times their size; .*"):
        decode("x.parquet", content, group=0)
    assert decode("x.parquet", content, 0, ("prompt",)).column_names == ["prompt", ROW, FAULT]


def test_a_column_that_compression_made_a_thousand_times_smaller_is_refused(decode: Decode) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"prompt": [LONG] * 100}), content, use_dictionary=False, compression="zstd")
    with pytest.raises(DataError, match=r"/x.parquet: [\d,]+ bytes unpack to more than 100 times their size; .*"):
        decode("x.parquet", content.getvalue(), group=0)


def test_a_row_group_of_too_many_rows_is_refused(decode: Decode) -> None:
    content = parquet(pa.table({"prompt": pa.nulls(5_000_000, pa.string())}), rows=5_000_000)
    with pytest.raises(DataError, match=r"/x.parquet: a row group has 5,000,000 rows; write it again with 4,194,304"):
        decode("x.parquet", content, group=0)


def test_lists_and_objects_keep_their_places_among_the_columns(decode: Decode) -> None:
    table = pa.table({"a": [[1]] * 200, "prompt.b": ["x"] * 200, "c": [{"d": "e"}] * 200, "prompt": ["p"] * 200})
    assert decode("x.parquet", parquet(table), group=0).drop_columns([ROW, FAULT]).to_pylist() == table.to_pylist()


def test_a_file_of_too_many_columns_is_refused(write_files: WriteFiles) -> None:
    wide = pa.table({str(number): [1] for number in range(1001)})
    (entry,) = write_files({"x.parquet": parquet(wide)})
    with pytest.raises(DataError, match=r"/x.parquet: file has more than 1,000 columns; leave out those .*"):
        Parquet().segments(entry)
