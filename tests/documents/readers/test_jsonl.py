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
from ragjob.documents.readers.base import FAULT, WHOLE_FILE, segment_rows
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
