import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.readers.base import FAULT, ROW, WHOLE_FILE
from ragjob.documents.readers.csv import CSV
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


@pytest.mark.parametrize("content", [b"", b"\n", b"prompt,n\n", b"prompt,n"])
def test_a_file_without_rows_gives_none(decode: Decode, content: bytes) -> None:
    assert decode("x.csv", content).num_rows == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt,n\na\n", "can't be read: CSV parse error: .*; repair the file"),
        (b"prompt,\xff\na,b\n", "can't be read: .*; repair the file"),
        ("prompt,n\na,b\n".encode("utf-16-le"), "file is full of NUL .*; save it as UTF-8"),
        (b"prompt,n,n\na,b,c\n", "column 'n' appears twice; rename one"),
    ],
)
def test_a_file_that_cant_be_read_is_named(decode: Decode, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"/x.csv: {message}$"):
        decode("x.csv", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'id,prompt\n1,"Who?\n2,What?\n', "line 2: a quote is opened but never closed; close it"),
        (b'id,prompt\r\n1,"a\r\nb"\r\n2,"Who?\r\n3,What?', "line 4: a quote is opened but never closed; close it"),
        (b'id,prompt\r1,a\r2,"Who?\r', "line 3: a quote is opened but never closed; close it"),
        (b'id,prompt\n1,"Who?\n2,"What?"\n', "line 2: a field in quotes .* after its closing quote, in line 3; .*"),
        (b'id,prompt\n1,"Who ""is"" he?\n2,""What""', "line 2: a quote is opened but never closed; close it"),
        (b'id,prompt\n1,a 5" pipe\n2,b\n', "line 2: a field that isn't in quotes contains a quote; .*"),
        (b'id,prompt\n1, "Who, he?"\n', "line 2: a field that isn't in quotes contains a quote; .*"),
        (b'"id,prompt\n1,2\n', "line 1: a quote is opened but never closed; close it"),
        (b"id,prompt\n1,a\n2,b,c\n", r"can't be read: CSV parse error: Row #3: Expected 2 columns, got 3: .*"),
    ],
)
def test_quotes_and_rows_that_rfc_4180_does_not_allow_are_refused_by_line(
    decode: Decode, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=f"/x.csv: {message}$"):
        decode("x.csv", content)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5), st.sampled_from(["\r", "\n", "\r\n"]))
def test_every_csv_that_python_writes_is_read(rows: list[tuple[str, str]], end: str) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    read = CSV().decode(io.BytesIO(file.getvalue().encode()), WHOLE_FILE, None)
    assert list(zip(*read.select(["a", "b"]).to_pydict().values(), strict=True)) == rows


@given(st.text('a",\n\r', max_size=12))
def test_a_csv_with_quotes_at_random_is_read_as_python_reads_it_or_refused(text: str) -> None:
    content = f"a,b\n{text}"
    assert read_by_us(content) in (None, read_by_python(content))


def read_by_us(content: str) -> list[list[str]] | None:
    try:
        rows = CSV().decode(io.BytesIO(content.encode()), WHOLE_FILE, None)
    except (ValueError, pa.ArrowInvalid):
        return None
    return [list(row) for row in zip(*rows.select(["a", "b"]).to_pydict().values(), strict=True)]


def read_by_python(content: str) -> list[list[str]] | str:
    try:
        return [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row][1:]
    except csv.Error as error:
        return str(error)


def test_a_csv_with_more_columns_than_a_table_has_is_refused(decode: Decode) -> None:
    with pytest.raises(DataError, match=r"/x.csv: file has more than 1,000 columns; leave out those .*"):
        decode("x.csv", b",".join(b"%d" % number for number in range(1_000_000)) + b"\n")


def test_only_the_columns_asked_for_are_read_from_csv(decode: Decode) -> None:
    assert decode("x.csv", b"prompt,n\na,1\n", columns=("n", "none")).column_names == ["n", ROW, FAULT]
    assert decode("x.csv", b"prompt,n\na,1\n", columns=("none",))[ROW].to_pylist() == [0]
