import pytest

from ragjob.documents.readers.base import FAULT
from ragjob.errors import DataError
from tests.documents.readers.conftest import Decode


@pytest.mark.parametrize(
    "content",
    [
        b"prompt,n\na,1\nb,2\n",
        b"\xef\xbb\xbfprompt,n\r\na,1\r\nb,2",
    ],
)
def test_rows_are_given_in_order(decode: Decode, content: bytes) -> None:
    rows = decode("x.csv", content)
    assert rows.select(["prompt", "n"]).to_pydict() == {"prompt": ["a", "b"], "n": ["1", "2"]}
    assert rows[FAULT].null_count == 2


def test_a_line_break_in_quotes_is_part_of_its_field(decode: Decode) -> None:
    rows = decode("x.csv", b'prompt,n\n"one\ntwo, ""three""",1\nfour,2\n')
    assert rows["prompt"].to_pylist() == ['one\ntwo, "three"', "four"]


def test_a_csv_field_may_hold_megabytes(decode: Decode) -> None:
    rows = decode("x.csv", b"prompt\na\n" + b"x" * 5_000_000 + b"\nb\n")
    assert [len(text) for text in rows["prompt"].to_pylist()] == [1, 5_000_000, 1]


def test_csv_values_stay_the_text_that_they_are(decode: Decode) -> None:
    rows = decode("x.csv", b"prompt,n\n1914,001\n2024-01-01,\ntrue,NA\n")
    assert rows["prompt"].to_pylist() == ["1914", "2024-01-01", "true"]
    assert rows["n"].to_pylist() == ["001", "", "NA"]


@pytest.mark.parametrize("content", [b"", b"\n", b"prompt,n\n"])
def test_a_file_without_rows_gives_none(decode: Decode, content: bytes) -> None:
    assert decode("x.csv", content).num_rows == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt,n\na\n", "can't be read: CSV parse error: .*; mend the file"),
        (b"prompt,\xff\na,b\n", "can't be read: .*; mend the file"),
        ("prompt,n\na,b\n".encode("utf-16"), "can't be read: .*; mend the file"),
        (b"prompt,n,n\na,b,c\n", "column 'n' stands twice; rename one"),
    ],
)
def test_a_file_that_cant_be_read_is_named(decode: Decode, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"/x.csv: {message}$"):
        decode("x.csv", content)
