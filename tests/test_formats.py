import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import DataError
from job.formats import FAULT, ROW, as_binary, ids_of, segment_rows
from job.storage import list_inputs
from tests.conftest import parquet

Decode = Callable[..., pa.Table]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    def decode(name: str, content: bytes, group: int = -1, columns: tuple[str, ...] | None = None) -> pa.Table:
        (tmp_path / name).write_bytes(content)
        entry = list_inputs(str(tmp_path / name), (name,), "prompts.uri")[0]
        return segment_rows(entry.uri, entry.tag, group, columns)

    return decode


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b'{"prompt": "a", "n": "1"}\n{"prompt": "b", "n": "2"}\n'),
        ("x.jsonl", b'\xef\xbb\xbf{"prompt": "a", "n": "1"}\r\n\r\n{"prompt": "b", "n": "2"}'),
        ("x.csv", b"prompt,n\na,1\nb,2\n"),
        ("x.csv", b"\xef\xbb\xbfprompt,n\r\na,1\r\nb,2"),
        ("x.parquet", parquet(pa.table({"prompt": ["a", "b"], "n": ["1", "2"]}))),
    ],
)
def test_every_table_format_gives_its_rows_in_order(decode: Decode, name: str, content: bytes) -> None:
    rows = decode(name, content, group=0)
    assert rows.select(["prompt", "n"]).to_pydict() == {"prompt": ["a", "b"], "n": ["1", "2"]}
    assert rows[FAULT].null_count == 2


def test_each_line_of_a_text_file_is_a_prompt_unless_blank(decode: Decode) -> None:
    rows = decode("x.txt", b"one\r\n\n  \ntwo\xff\n\tthree")
    assert rows["prompt"].to_pylist() == [b"one", b"two\xff", b"\tthree"]
    assert rows[ROW].to_pylist() == [0, 3, 4]


def test_a_row_keeps_its_number_in_the_file_whatever_its_row_group(decode: Decode) -> None:
    content = parquet(pa.table({"prompt": list("abcde")}), rows=2)
    assert [decode("x.parquet", content, group)[ROW].to_pylist() for group in range(3)] == [[0, 1], [2, 3], [4]]


def test_only_the_columns_asked_for_are_read_from_parquet(decode: Decode) -> None:
    content = parquet(pa.table({"prompt": ["a"], "n": [1]}))
    assert decode("x.parquet", content, 0, ("n", "none")).column_names == ["n", ROW, FAULT]


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


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "line isn't JSON: Expecting property name"),
        (b"[1]", "line isn't a JSON object"),
        (b'{"prompt": "\xff"}', "line isn't UTF-8: byte 12 is wrong"),
        (rb'{"prompt": "\ud800"}', "line isn't JSON: .* surrogates not allowed"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "line isn't JSON: .* integer"),
        (b"[" * 100_000, "line isn't JSON: maximum recursion depth"),
    ],
    ids=["cut", "list", "latin", "surrogate", "huge number", "nested"],
)
def test_a_malformed_line_is_a_fault_of_its_own(decode: Decode, line: bytes, fault: str) -> None:
    rows = decode("x.jsonl", b'{"prompt": "a"}\n' + line + b'\n{"prompt": "c"}\n')
    assert rows["prompt"].to_pylist() == ["a", None, "c"]
    assert [rows[FAULT][0].as_py(), rows[FAULT][2].as_py()] == [None, None]
    assert re.match(fault, rows[FAULT][1].as_py())


def test_a_surrogate_pair_is_a_character(decode: Decode) -> None:
    assert decode("x.jsonl", rb'{"prompt": "\ud83d\ude8b"}')["prompt"].to_pylist() == ["🚋"]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([1, "a", None], ["1", "a", None]),
        ([{"a": 1}, "a", [1]], ['{"a": 1}', "a", "[1]"]),
        ([{"a": 1}, {"a": "x"}], ['{"a": 1}', '{"a": "x"}']),
        ([2**70, None], ["1180591620717411303424", None]),
        ([{}, None], ["{}", None]),
        ([[{}]], ["[{}]"]),
    ],
)
def test_a_jsonl_column_that_arrow_has_no_type_for_is_kept_as_json(
    decode: Decode, values: list[object], kept: list[object]
) -> None:
    lines = [json.dumps({"prompt": "q", "x": value}) for value in values]
    assert decode("x.jsonl", "\n".join(lines).encode())["x"].to_pylist() == kept


@given(st.lists(JSON, min_size=1, max_size=4))
def test_whatever_a_jsonl_column_holds_parquet_and_arrow_streams_take_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[object]
) -> None:
    file = tmp_path_factory.mktemp("json") / "x.jsonl"
    file.write_text("\n".join(json.dumps({"x": value}) for value in values))
    (entry,) = list_inputs(str(file), (".jsonl",), "corpus.uri")
    rows = segment_rows(entry.uri, entry.tag, -1, None)
    with pa.ipc.new_stream(io.BytesIO(), rows.schema) as stream:
        stream.write_table(rows)
    assert pq.read_table(io.BytesIO(parquet(rows)))["x"].to_pylist() == rows["x"].to_pylist()


def test_deeply_nested_json_is_kept_as_text(decode: Decode) -> None:
    nested = "[" * 500 + "]" * 500
    assert decode("x.jsonl", f'{{"prompt": "a", "x": {nested}}}'.encode())["x"].to_pylist() == [nested]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b""),
        ("x.jsonl", b"\n \n"),
        ("x.csv", b""),
        ("x.csv", b"\n"),
        ("x.csv", b"prompt,n\n"),
        ("x.txt", b""),
    ],
)
def test_a_file_without_rows_gives_none(decode: Decode, name: str, content: bytes) -> None:
    assert decode(name, content).num_rows == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"prompt,n\na\n", "can't be read: CSV parse error: .*; mend the file"),
        ("x.csv", b"prompt,\xff\na,b\n", "can't be read: .*; mend the file"),
        ("x.csv", "prompt,n\na,b\n".encode("utf-16"), "can't be read: .*; mend the file"),
        ("x.csv", b"prompt,n,n\na,b,c\n", "column 'n' stands twice; rename one"),
        ("x.parquet", b"PAR1", "can't be read: .*; mend the file"),
        ("x.parquet", parquet(pa.table({"prompt": ["a"]}))[:-9], "can't be read: .*; mend the file"),
    ],
)
def test_a_file_that_cant_be_read_is_named(decode: Decode, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"/{name}: {message}$"):
        decode(name, content, group=0)


def test_a_file_that_changed_is_read_anew(decode: Decode) -> None:
    before = decode("x.txt", b"one\n")
    after = decode("x.txt", b"one\ntwo\n")
    assert (before.num_rows, after.num_rows) == (1, 2)


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
