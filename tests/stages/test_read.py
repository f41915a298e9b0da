import gzip
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from ragjob.documents.settings import Corpus, Prompts
from ragjob.documents.units import Inputs, plan_slices, scan_corpus, scan_prompts
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.stages.read import ReadDocuments, ReadPrompts
from tests.conftest import WriteFiles, parquet
from tests.documents.readers.pdfs import pdf

ALL = 10**9
BY_DEFAULT, ANY_PROMPT = Corpus(), Prompts()
Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def documents(write_files: WriteFiles) -> Read:
    """Documents of a corpus of these files, but for those that are done."""

    def read(files: dict[str, bytes], corpus: Corpus = BY_DEFAULT, done: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        units = plan_slices(scan_corpus(write_files(files), corpus), ALL, ALL)
        stage = ReadDocuments(corpus, frozenset(done))
        return [document for unit in units for document in stage(unit).to_pylist()]

    return read


@pytest.fixture
def prompts(write_files: WriteFiles) -> Read:
    """Prompts of these files, read in units of a few rows."""

    def read(files: dict[str, bytes], settings: Prompts = ANY_PROMPT, rows: int = ALL) -> list[dict[str, Any]]:
        inputs: Inputs = scan_prompts(write_files(files), settings)
        stage = ReadPrompts(settings, inputs.passed)
        return [prompt for unit in plan_slices(inputs.segments, rows, ALL) for prompt in stage(unit).to_pylist()]

    return read


def test_a_text_file_is_a_document_named_by_its_path(documents: Read) -> None:
    assert [
        (d["document_id"], d["text"], d["error"]) for d in documents({"a.md": "\ufeffé\n".encode(), "b.txt": b""})
    ] == [
        ("a.md", "é\n", None),
        ("b.txt", "", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("a.csv", b"text\none\ntwo\n", ["a.csv#0", "a.csv#1"]),
        ("a.jsonl", b'\n{"text": "one"}\n{"text": "two"}', ["a.jsonl#1", "a.jsonl#2"]),
        ("a.parquet", parquet(pa.table({"text": ["one", "two"]}), rows=1), ["a.parquet#0", "a.parquet#1"]),
    ],
)
def test_a_row_of_a_table_is_a_document_named_by_path_and_row(
    documents: Read, name: str, content: bytes, ids: list[str]
) -> None:
    read = documents({name: content})
    assert [d["text"] for d in read] == ["one", "two"]
    assert [d["document_id"] for d in read] == ids


def test_a_document_is_named_by_its_id_column(documents: Read) -> None:
    read = documents({"a.csv": b"text,id\none,007\n"}, Corpus(id_column="id"))
    assert [d["document_id"] for d in read] == ["007"]


def test_documents_that_are_done_arent_read_again(documents: Read) -> None:
    read = documents({"a.csv": b"text\none\ntwo\n", "b.md": b"three"}, done=("a.csv#0", "b.md"))
    assert [d["text"] for d in read] == ["two"]


@pytest.mark.parametrize(
    ("files", "text", "error"),
    [
        ({"a.md": b"caf\xe9"}, "caf\ufffd", "file isn't UTF-8: byte 3 is wrong; save it as UTF-8"),
        ({"a.csv": b"text\ncaf\xe9\n"}, "caf\ufffd", "text isn't UTF-8: byte 3 is wrong; save it as UTF-8"),
        ({"a.csv": b'text\n" "\n'}, "", "text is blank"),
        ({"a.jsonl": b'{"text": null}'}, "", "text is null"),
        ({"a.jsonl": b'{"text": "a"}\n{"body": "a"}'}, "", "text is null"),
        ({"a.jsonl": b'{"text": "a"}\n{'}, None, "line isn't JSON: Expecting property name"),
        ({"a.txt": "why?".encode("utf-16-le")}, None, "file is full of NUL or control characters"),
        ({"a.parquet": parquet(pa.table({"text": ["why?".encode("utf-16-be")]}))}, None, "text is full of NUL or"),
    ],
)
def test_a_document_that_cant_be_read_is_a_row_with_an_error(
    documents: Read, files: dict[str, bytes], text: str | None, error: str
) -> None:
    last = documents(files)[-1]
    assert last["text"] == text
    assert last["error"].startswith(error)


def test_a_file_of_blocks_has_its_title_pages_and_metadata(documents: Read) -> None:
    content = pdf([(18, "Depots"), (10, "Nordhavn has 42 cars.")], info="/Title (The line) /Author (A. B.)")
    (document,) = documents({"a.PDF": content})
    assert (document["text"], document["title"]) == ("Depots\n\nNordhavn has 42 cars.", "The line")
    assert json.loads(document["metadata"]) == {"path": "a.PDF", "size": len(content), "author": "A. B."}
    assert document["blocks"] == [
        {"start": 0, "kind": "heading", "level": 1, "page": 1},
        {"start": 8, "kind": "prose", "level": 0, "page": 1},
    ]


def test_a_document_beyond_the_limits_is_an_error_in_every_format(documents: Read) -> None:
    files = {"a.pdf": pdf([(10, "one")], [(10, "two")]), "b.txt": b"too long", "c.csv": b"text\ntoo long\nshort\n"}
    read = documents(files, Corpus(max_pages=1, max_chars=7))
    advice = "split it or leave it out, or raise corpus.max_"
    assert [(d["text"], d["error"]) for d in read] == [
        (None, f"document has more than 1 pages; {advice}pages"),
        (None, f"document has more than 7 characters; {advice}chars"),
        (None, f"document has more than 7 characters; {advice}chars"),
        ("short", None),
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": b"one\ntwo\nthree\n"},
        {"a.csv": b"prompt\none\ntwo\nthree\n"},
        {"a.jsonl": b'{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "three"}\n'},
        {"a.parquet": parquet(pa.table({"prompt": ["one", "two", "three"]}))},
        {
            "a.parquet": parquet(
                pa.table({"prompt": ["one", "two", "three"]}).cast(pa.schema([("prompt", pa.binary())]))
            )
        },
        {"a.txt": b"one\n", "b.csv": b"prompt\ntwo\n", "c.jsonl": b'{"prompt": "three"}'},
    ],
)
def test_prompts_of_every_format_are_read_in_order(prompts: Read, files: dict[str, bytes]) -> None:
    read = prompts(files)
    assert [(p["_position"], p["prompt"], p["error"]) for p in read] == [
        (0, "one", None),
        (1, "two", None),
        (2, "three", None),
    ]


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_units_across_row_groups_and_files_read_each_prompt_once_in_order(prompts: Read, rows: int) -> None:
    tables = [pa.table({"prompt": [f"{name}{number}" for number in range(11)]}) for name in "ab"]
    read = prompts({"a.parquet": parquet(tables[0], rows=4), "b.parquet": parquet(tables[1], rows=5)}, rows=rows)
    assert [p["prompt"] for p in read] == [f"{name}{number}" for name in "ab" for number in range(11)]
    assert [p["_position"] for p in read] == list(range(22))


def test_a_prompts_id_is_the_digest_of_path_row_and_text(prompts: Read) -> None:
    read = prompts({"a.txt": b"why?\n\nwhy?\n"})
    assert [p["prompt_id"] for p in read] == [schema.digest("a.txt", 0, "why?"), schema.digest("a.txt", 2, "why?")]


def test_a_prompts_id_is_that_of_its_id_column_in_every_format(prompts: Read) -> None:
    files = {"a.csv": b"prompt,id\none,01\n", "b.jsonl": b'{"prompt": "two", "id": 2}'}
    assert [p["prompt_id"] for p in prompts(files, Prompts(id_column="id"))] == ["01", "2"]


@pytest.mark.parametrize(
    ("files", "prompt", "error"),
    [
        ({"a.jsonl": b'{"prompt": "a"}\n{"prompt": null}'}, None, "prompt is null"),
        ({"a.jsonl": b'{"prompt": "a"}\n{"question": "a"}'}, None, "prompt is null"),
        ({"a.jsonl": b'{"prompt": "a"}\n["a"]'}, None, "line isn't a JSON object"),
        ({"a.csv": b'prompt\na\n""\n'}, "", "prompt is blank"),
        (
            {"a.jsonl": b'{"prompt": "a"}\n{"prompt": "\\u0000\\u0000b"}'},
            None,
            "prompt is full of NUL or control characters",
        ),
        ({"a.csv": b'prompt\na\n" \t"\n'}, " \t", "prompt is blank"),
        ({"a.txt": b"a\ncaf\xe9\n"}, "caf\ufffd", "prompt isn't UTF-8: byte 3 is wrong; save it as UTF-8"),
        ({"a.csv": b"prompt\na\n\xff\xfe\n"}, "\ufffd\ufffd", "prompt isn't UTF-8: byte 0 is wrong; save it as UTF-8"),
        (
            {"a.txt": b"a\n" + b"x" * 5_000_000},
            "x" * 5_000_000,
            "prompt has 5,000,000 characters, more than 100,000; shorten it",
        ),
    ],
    ids=["null", "without", "list", "empty", "nul", "blank", "latin", "utf-16", "long"],
)
def test_a_prompt_that_cant_be_asked_is_a_row_with_an_error(
    prompts: Read, files: dict[str, bytes], prompt: str | None, error: str
) -> None:
    first, second = prompts(files)
    assert (first["prompt"], first["error"]) == ("a", None)
    assert second["prompt"] == prompt
    assert second["error"].startswith(error)


def test_a_malformed_line_keeps_its_place_though_it_has_no_id(prompts: Read) -> None:
    read = prompts({"a.jsonl": b'{"prompt": "a", "id": "x"}\n{'}, Prompts(id_column="id"))
    assert [p["prompt_id"] for p in read] == ["x", schema.digest("a.jsonl", 1, None)]


def test_other_columns_pass_through_and_are_null_where_a_file_lacks_them(prompts: Read) -> None:
    read = prompts(
        {
            "a.jsonl": b'{"prompt": "a", "year": 1931, "tags": ["x"], "at": {"line": 1}}',
            "b.jsonl": b'{"prompt": "b", "year": 1931.5, "at": {"stop": 2}}',
            "c.txt": b"c\n",
        }
    )
    assert [(p["year"], p["tags"], p["at"]) for p in read] == [
        (1931.0, ["x"], {"line": 1, "stop": None}),
        (1931.5, None, {"line": None, "stop": 2}),
        (None, None, None),
    ]


def test_what_passes_through_and_isnt_utf8_shows_its_wrong_bytes(prompts: Read) -> None:
    assert [p["x"] for p in prompts({"a.csv": b"prompt,x\na,caf\xe9\nb,ok\n"})] == ["caf\ufffd", "ok"]


def test_documents_that_repeat_a_long_text_too_often_end_the_job_and_name_the_file(documents: Read) -> None:
    table = pa.table({"text": ["x" * 1_000_000] * 100})
    with pytest.raises(
        DataError, match=r"/a.parquet: 100 rows repeat texts that come to 95 MiB; lower commit_rows, or"
    ):
        documents({"a.parquet": parquet(table)})


def test_a_packed_file_is_a_document(documents: Read) -> None:
    assert [d["text"] for d in documents({"a.TXT.gz": gzip.compress(b"one\rtwo")})] == ["one\ntwo"]


def test_prompts_in_packed_files_are_read(prompts: Read) -> None:
    files = {"a.Txt.GZ": gzip.compress(b"one\rtwo"), "b.csv.gz": gzip.compress(b"prompt\rthree\r")}
    assert [p["prompt"] for p in prompts(files)] == ["one", "two", "three"]
