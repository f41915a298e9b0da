"""What goes into a file of any format comes out of its reader: every text and id, in order."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.inputs import list_corpus, list_prompts
from ragjob.documents.settings import Corpus, Prompts
from ragjob.documents.units import plan_slices, scan_corpus, scan_prompts
from ragjob.stages.read import ReadDocuments, ReadPrompts
from tests.conftest import parquet

Rows = list[tuple[str, str]]  # of id and text

# Without the control characters that text files don't hold, and not blank.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n\r\t",{}[]\\')
TEXTS = st.text(CHARACTERS, min_size=1, max_size=20).map(lambda text: f"a{text}z")
ROWS = st.lists(TEXTS, min_size=1, max_size=6).map(lambda texts: [(str(at), text) for at, text in enumerate(texts)])
LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map("a{}".format))
PACKED = st.sampled_from([bytes, gzip.compress])
ENCODING = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


def as_objects(rows: Rows) -> list[dict[str, str]]:
    return [{"id": name, "text": text, "prompt": text} for name, text in rows]


def as_jsonl(rows: Rows) -> str:
    return "\n".join(map(json.dumps, as_objects(rows)))


def as_pretty_json(rows: Rows) -> str:
    return json.dumps(as_objects(rows), indent=1, ensure_ascii=False)


def as_csv(rows: Rows) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("id", "text", "prompt"), *((name, text, text) for name, text in rows)])
    return file.getvalue()


FORMATS = {".jsonl": as_jsonl, ".ndjson": as_jsonl, ".json": as_pretty_json, ".csv": as_csv}


def documents(folder: Path) -> Rows:
    corpus = Corpus(id_column="id")
    segments = scan_corpus(list_corpus(str(folder), corpus).entries, corpus)
    stage = ReadDocuments(corpus, frozenset())
    read = pa.concat_tables([stage(unit) for unit in plan_slices(segments, 2, 50)]).to_pylist()
    assert [row["error"] for row in read] == [None] * len(read)
    return [(row["document_id"], row["text"]) for row in read]


def prompts(folder: Path, chosen: Prompts) -> Rows:
    inputs = scan_prompts(list_prompts(str(folder)).entries, chosen)
    stage = ReadPrompts(chosen, inputs.passed)
    read = pa.concat_tables([stage(unit) for unit in plan_slices(inputs.segments, 2, 10**9)]).to_pylist()
    assert [row["error"] for row in read] == [None] * len(read)
    assert [row["_position"] for row in read] == list(range(inputs.rows))
    return [(row["prompt_id"], row["prompt"]) for row in read]


@pytest.mark.parametrize("suffix", FORMATS)
@given(ROWS, ENCODING, PACKED)
def test_rows_of_text_formats_come_out(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: Rows, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / f"x{suffix}").write_bytes(pack(FORMATS[suffix](rows).encode(encoding)))
    assert documents(folder) == rows
    assert prompts(folder, Prompts(id_column="id")) == rows


@given(ROWS, st.integers(1, 4), st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.binary()]))
def test_rows_of_parquet_come_out(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, group: int, kind: pa.DataType
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    columns = pa.schema([("id", pa.string()), ("text", kind), ("prompt", kind)])
    (folder / "x.parquet").write_bytes(parquet(pa.Table.from_pylist(as_objects(rows)).cast(columns), rows=group))
    assert documents(folder) == rows
    assert prompts(folder, Prompts(id_column="id")) == rows


@given(TEXTS.map(lambda text: text.replace("\r", "")), ENCODING, PACKED)
def test_a_text_comes_out(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path_factory.mktemp("text")
    (folder / "x.txt").write_bytes(pack(text.encode(encoding)))
    assert documents(folder) == [("x.txt", text)]


@given(LINES.filter(bool), st.sampled_from(["\n", "\r\n", "\r"]), ENCODING, PACKED)
def test_lines_come_out(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    end: str,
    encoding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "x.txt").write_bytes(pack(end.join(lines).encode(encoding)))
    assert [text for _, text in prompts(folder, Prompts())] == lines
