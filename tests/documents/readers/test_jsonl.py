import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.inputs import list_prompts
from ragjob.documents.readers import prompt_reader
from ragjob.documents.readers.base import FAULT, ROW, WHOLE_FILE, segment_rows
from ragjob.errors import DataError
from tests.conftest import parquet
from tests.documents.readers.conftest import Decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt": "a", "n": "1"}\n{"prompt": "b", "n": "2"}\n',
        b'\xef\xbb\xbf{"prompt": "a", "n": "1"}\r\n\r\n{"prompt": "b", "n": "2"}',
    ],
)
def test_rows_are_given_in_order(decode: Decode, content: bytes) -> None:
    rows = decode("x.jsonl", content)
    assert rows.select(["prompt", "n"]).to_pydict() == {"prompt": ["a", "b"], "n": ["1", "2"]}
    assert rows[FAULT].null_count == 2


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
    (entry,) = list_prompts(str(file)).entries
    rows = segment_rows(prompt_reader(entry.uri), entry.uri, entry.tag, WHOLE_FILE, None)
    with pa.ipc.new_stream(io.BytesIO(), rows.schema) as stream:
        stream.write_table(rows)
    assert pq.read_table(io.BytesIO(parquet(rows)))["x"].to_pylist() == rows["x"].to_pylist()


def test_deeply_nested_json_is_kept_as_text(decode: Decode) -> None:
    nested = "[" * 500 + "]" * 500
    assert decode("x.jsonl", f'{{"prompt": "a", "x": {nested}}}'.encode())["x"].to_pylist() == [nested]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_rows_gives_none(decode: Decode, content: bytes) -> None:
    assert decode("x.jsonl", content).num_rows == 0


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson"])
@pytest.mark.parametrize(
    "content",
    [
        b'[{"prompt": "a"}, {"prompt": "b"}]',
        b'[\n  {\n    "prompt": "a"\n  },\n  {\n    "prompt": "b"\n  }\n]\n',
        b'{"prompt": "a"}{"prompt": "b"}',
        b'{\n"prompt": "a"\n}\n{\n"prompt": "b"\n}\n',
        b'[{"prompt": "a"}]\n[{"prompt": "b"}]',
        b'{"prompt": "a"}\r{"prompt": "b"}\r',
    ],
    ids=["array", "pretty array", "concatenated", "pretty objects", "arrays", "cr"],
)
def test_objects_that_do_not_stand_on_lines_of_their_own_are_read(decode: Decode, name: str, content: bytes) -> None:
    rows = decode(name, content)
    assert rows["prompt"].to_pylist() == ["a", "b"]
    assert rows[ROW].to_pylist() == [0, 1]
    assert rows[FAULT].null_count == 2


def test_an_object_alone_is_a_row(decode: Decode) -> None:
    assert decode("x.json", b'{\n"prompt": "a"\n}')["prompt"].to_pylist() == ["a"]


def test_what_stands_in_an_array_beside_objects_is_a_fault_of_its_own(decode: Decode) -> None:
    rows = decode("x.json", rb'[{"prompt": "a"}, 3, {"prompt": "\ud800"}, {"prompt": "d"}]')
    assert rows["prompt"].to_pylist() == ["a", None, None, "d"]
    assert rows[FAULT].to_pylist()[1] == "value isn't a JSON object"
    assert rows[FAULT].to_pylist()[2].startswith("value isn't JSON: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"just a text"\n', "line 1 isn't a JSON object; write an object on each line"),
        (b"[1, 2]\n", "line 1 isn't a JSON object; write an object on each line"),
        (b"\n\nname,age\nann,7\n", "line 3 isn't JSON: Expecting value: .*; as a whole it isn't JSON: .*; write .*"),
        (b'[\n{"prompt": "a"},\n{"prompt"', "line 1 isn't JSON: .*; as a whole it isn't JSON: .* line 3 .*; write .*"),
        (b"[" * 100_000, "line 1 isn't JSON: maximum recursion depth exceeded .*"),
    ],
    ids=["text", "numbers", "csv", "cut array", "nested"],
)
def test_a_file_without_an_object_is_refused_with_its_first_lines_fault(
    decode: Decode, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=f"/x.json: no JSON object in the file: {message}$"):
        decode("x.json", content)


@pytest.mark.parametrize(
    "line", ['{"k%d": 1}\n', '{"prompt": "a", "k%d": 1}\n', '{"prompt": "a", "x": {"y": 1}, "k%d": {"z": 1}}\n']
)
def test_rows_of_ever_other_keys_are_refused(decode: Decode, line: str) -> None:
    with pytest.raises(DataError, match=r"/x.jsonl: file has more than 1,000 columns; leave out those .*"):
        decode("x.jsonl", "".join(line % number for number in range(8000)).encode())


def test_many_rows_of_few_of_many_keys_are_refused(decode: Decode) -> None:
    lines = "".join(f'{{"k{number % 900}": 1}}\n' for number in range(8000))
    with pytest.raises(DataError, match=r"/x.jsonl: objects have \d+ distinct keys, and most have few of these; .*"):
        decode("x.jsonl", lines.encode())


def test_objects_of_ever_other_keys_in_a_column_are_kept_as_json(decode: Decode) -> None:
    rows = decode("x.jsonl", "".join(f'{{"x": {{"k{number}": 1}}}}\n' for number in range(8000)).encode())
    assert rows["x"].to_pylist()[:2] == ['{"k0": 1}', '{"k1": 1}']


def test_only_the_columns_asked_for_are_read_from_jsonl(decode: Decode) -> None:
    assert decode("x.jsonl", b'{"prompt": "a", "n": 1}', columns=("n", "none")).column_names == ["n", ROW, FAULT]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([7.0, "a"], ["7", "a"]),
        ([1, 2**53 + 1, 2.5], ["1", "9007199254740993", "2.5"]),
        ([2**64, 1], [str(2**64), "1"]),
    ],
)
def test_numbers_that_become_text_are_exact(decode: Decode, values: list[object], kept: list[str]) -> None:
    lines = [json.dumps({"x": value}) for value in values]
    assert decode("x.jsonl", "\n".join(lines).encode())["x"].to_pylist() == kept
