from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.settings import Corpus, Prompts
from ragjob.documents.units import SLICES, Segment, plan_slices, sample, scan_corpus, scan_prompts, without
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.storage.names import Entry
from tests.conftest import WriteFiles, parquet

DOCUMENTS = Corpus()
PROMPTS = Prompts()
NAMED = Prompts(id_column="id")
ROWS = pa.table({"prompt": ["a", "b", "c"]})
NOW = datetime.now(UTC)


def ids(values: list[float]) -> bytes:
    """A file of prompts with these ids."""
    return parquet(pa.table({"prompt": ["why?"] * len(values), "id": values}))


def test_a_document_is_a_text_file_or_a_row_of_a_table(write_files: WriteFiles) -> None:
    rows = pa.table({"text": ["a", "b", "c"]})
    entries = write_files({"a.md": b"a", "b.csv": b"text\na\nb\n", "c.parquet": parquet(rows, rows=2)})
    segments = scan_corpus(entries, DOCUMENTS)
    assert [(s.entry.path, s.group, s.rows) for s in segments] == [
        ("a.md", -1, 1),
        ("b.csv", -1, 2),
        ("c.parquet", 0, 2),
        ("c.parquet", 1, 1),
    ]


def test_prompts_of_all_files_count(write_files: WriteFiles) -> None:
    entries = write_files(
        {"a.txt": b"a\nb\n", "b.csv": b"prompt\na\n", "c.jsonl": b'{"prompt": "a"}', "d.parquet": parquet(ROWS)}
    )
    assert scan_prompts(entries, PROMPTS).rows == 7


def test_columns_other_than_the_prompts_and_the_ids_pass_through(write_files: WriteFiles) -> None:
    entries = write_files({"a.jsonl": b'{"id": 1, "prompt": "a", "topic": "trams", "year": 1931}'})
    assert scan_prompts(entries, NAMED).passed == pa.schema([("topic", pa.string()), ("year", pa.int64())])


def test_columns_of_several_files_are_brought_together(write_files: WriteFiles) -> None:
    entries = write_files(
        {
            "a.jsonl": b'{"prompt": "a", "year": 1931, "tags": []}',
            "b.jsonl": b'{"prompt": "a", "year": 1931.5, "topic": null}',
            "c.csv": b"prompt,topic\na,trams\n",
            "d.txt": b"a\n",
            "e.jsonl": b"",
            "f.jsonl": b'{"prompt": "a", "tags": [1]}',
        }
    )
    passed = scan_prompts(entries, PROMPTS).passed
    assert passed == pa.schema([("year", pa.float64()), ("tags", pa.list_(pa.int64())), ("topic", pa.string())])


@pytest.mark.parametrize(("kind", "passed"), [(pa.string_view(), pa.string()), (pa.binary_view(), pa.binary())])
def test_views_pass_through_as_what_they_view(write_files: WriteFiles, kind: pa.DataType, passed: pa.DataType) -> None:
    table = ROWS.append_column("x", ROWS["prompt"].cast(kind))
    assert scan_prompts(write_files({"a.parquet": parquet(table)}), PROMPTS).passed.field("x").type == passed


@pytest.mark.parametrize("name", sorted(schema.RESERVED - {"prompt"}))
def test_a_column_named_as_one_of_the_answers_is_refused(write_files: WriteFiles, name: str) -> None:
    entries = write_files({"a.csv": f"prompt,{name}\na,b\n".encode()})
    with pytest.raises(
        DataError, match=f"^prompts.uri: column '{name}' has the same name as an answer column; rename it"
    ):
        scan_prompts(entries, PROMPTS)


def test_a_prompt_column_beside_the_one_that_is_set_is_refused(write_files: WriteFiles) -> None:
    entries = write_files({"a.csv": b"question,prompt\na,b\n"})
    with pytest.raises(DataError, match=r"^prompts.uri: column 'prompt' has the same name as an answer column"):
        scan_prompts(entries, Prompts(prompt_column="question"))


@pytest.mark.parametrize(
    ("files", "prompts", "message"),
    [
        (
            {"a.csv": b"question,topic\na,b\n"},
            PROMPTS,
            "prompts.prompt_column: .*a.csv has no column 'prompt'; it has question, topic",
        ),
        ({"a.csv": b"prompt,topic\na,b\n"}, NAMED, "prompts.id_column: .*a.csv has no column 'id'; it has prompt, to"),
        (
            {"a.csv": b"prompt\na\n", "b.parquet": parquet(ROWS.rename_columns(["question"]))},
            PROMPTS,
            "prompts.prompt_column: .*b.parquet has no column 'prompt'; it has question",
        ),
        ({"a.jsonl": b"{"}, PROMPTS, "prompts.uri: .*a.jsonl: no JSON object in the file: line 1 isn't JSON: E"),
        ({"a.jsonl": b"{}"}, PROMPTS, "prompts.prompt_column: .*a.jsonl has no column 'prompt'; it has none"),
        ({"a.jsonl": b'{"prompt": 1}'}, PROMPTS, "prompts.prompt_column: column 'prompt' of .* holds int64"),
        ({"a.jsonl": b'{"prompt": ["a"]}'}, PROMPTS, "prompts.prompt_column: .* must hold text"),
        ({"a.jsonl": b'{"prompt": "a", "id": [1]}'}, NAMED, "prompts.id_column: .* must hold plain values"),
        ({"a.csv": b"prompt,id\na,1\nb,1\n"}, NAMED, "prompts.id_column: '1' appears twice in column 'id'"),
        (
            {"a.csv": b"prompt,id\na,1\n", "b.jsonl": b'{"prompt": "a", "id": 1}'},
            NAMED,
            "prompts.id_column: '1' appears twice",
        ),
        ({"a.csv": b"prompt,id\na,\n"}, NAMED, "prompts.id_column: row 1 of .*a.csv has no 'id'; give each row one$"),
        ({"a.jsonl": b'{"prompt": "a", "id": null}'}, NAMED, "prompts.id_column: row 1 of .* has no 'id'"),
        (
            {"a.parquet": ids([1.0, 2.0**53])},
            NAMED,
            "prompts.id_column: column 'id' of .*a.parquet: holds floats too large",
        ),
        ({"a.parquet": ids([1.0, float("nan")])}, NAMED, "prompts.id_column: row 2 of .*a.parquet has no 'id'"),
        ({"a.parquet": ids([7, 8]), "b.parquet": ids([7.0])}, NAMED, "prompts.id_column: '7' appears twice"),
        ({"a.csv": b"prompt\n"}, PROMPTS, "prompts.uri: no prompt in .*a.csv; name a file that has some"),
        ({"a.parquet": parquet(ROWS.slice(0, 0))}, PROMPTS, "prompts.uri: no prompt in .*a.parquet"),
        ({"a.parquet": parquet(ROWS)[:-9]}, PROMPTS, "prompts.uri: .*a.parquet: not a complete Parquet file"),
        ({"a.csv": b"prompt,x,x\na,b,c\n"}, PROMPTS, "prompts.uri: .*a.csv: column 'x' appears twice"),
    ],
)
def test_prompts_that_wont_do_are_refused(
    write_files: WriteFiles, files: dict[str, bytes], prompts: Prompts, message: str
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        scan_prompts(write_files(files), prompts)


def test_two_parquet_columns_of_one_name_are_refused(write_files: WriteFiles) -> None:
    table = pa.Table.from_arrays([ROWS["prompt"], ROWS["prompt"]], names=["prompt", "prompt"])
    with pytest.raises(DataError, match=r"^prompts.uri: .*a.parquet: column 'prompt' appears twice; rename one"):
        scan_prompts(write_files({"a.parquet": parquet(table)}), PROMPTS)


@pytest.mark.parametrize(
    ("files", "corpus", "message"),
    [
        (
            {"a.md": b"a", "b.csv": b"body\na\n"},
            DOCUMENTS,
            "corpus.text_column: .*b.csv has no column 'text'; it has body",
        ),
        ({"a.csv": b"text\na\n"}, Corpus(id_column="id"), "corpus.id_column: .*a.csv has no column 'id'; it has text"),
        ({"a.csv": b"text,id\na,1\nb,1\n"}, Corpus(id_column="id"), "corpus.id_column: '1' appears twice"),
        ({"a.txt": b"a", "b.csv": b"text,id\nb,a.txt\n"}, Corpus(id_column="id"), "corpus.id_column: 'a.txt' appears"),
        ({"a.md": b"", "b.txt": b""}, DOCUMENTS, "corpus.uri: all 2 files are empty"),
        ({"a.csv": b"text\n", "b.jsonl": b"\n"}, DOCUMENTS, "corpus.uri: all 2 files are empty"),
        ({"a.parquet": b"PAR1"}, DOCUMENTS, "corpus.uri: .*a.parquet: not a complete Parquet file; write it again"),
        ({"a.csv": b"text,n\na\n"}, DOCUMENTS, "corpus.uri: .*a.csv: can't be read: CSV parse error"),
    ],
)
def test_a_corpus_that_wont_do_is_refused(
    write_files: WriteFiles, files: dict[str, bytes], corpus: Corpus, message: str
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        scan_corpus(write_files(files), corpus)


@pytest.mark.parametrize("ids", [pa.array([b"0" * 16], pa.binary(16)), pa.array([b"0" * 16], pa.uuid())], ids=str)
def test_ids_that_cannot_be_written_as_text_are_refused(write_files: WriteFiles, ids: pa.Array) -> None:
    entries = write_files({"a.parquet": parquet(pa.table({"prompt": ["a"], "id": ids}))})
    with pytest.raises(DataError, match=r"^prompts.id_column: column 'id' of .* it must hold plain values"):
        scan_prompts(entries, NAMED)


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "empty.txt"])
def test_an_empty_file_among_others_is_passed_over(write_files: WriteFiles, name: str) -> None:
    entries = write_files({"a.csv": b"text\na\n", name: b""})
    assert len(scan_corpus(entries, DOCUMENTS)) == 2


SHAPES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 400)), max_size=6)
LIMITS = st.integers(1, 30)


def segments_of(shapes: list[tuple[int, int]]) -> list[Segment]:
    """Segments of these (rows, bytes), each in a file of its own."""
    names = [f"{number}.jsonl" for number in range(len(shapes))]
    return [
        Segment(Entry(name, name, size, "tag", NOW, name), -1, rows, size)
        for name, (rows, size) in zip(names, shapes, strict=True)
    ]


def read(units: list[pa.Table]) -> list[tuple[int, str, int]]:
    """(position, file, row in it) of all that the units stand for, in their order."""
    return [
        (row["position"] + at, row["uri"], row["first"] + at)
        for unit in units
        for row in unit.to_pylist()
        for at in range(row["rows"])
    ]


def all_of(shapes: list[tuple[int, int]]) -> list[tuple[int, str, int]]:
    rows = [(f"{number}.jsonl", row) for number, (count, _) in enumerate(shapes) for row in range(count)]
    return [(position, *row) for position, row in enumerate(rows)]


@given(SHAPES, LIMITS, st.integers(1, 300))
def test_units_hold_each_row_once_in_order(shapes: list[tuple[int, int]], rows: int, size: int) -> None:
    assert read(list(plan_slices(segments_of(shapes), rows, size))) == all_of(shapes)


@given(SHAPES, LIMITS, st.integers(1, 300))
def test_no_unit_has_more_rows_than_it_may(shapes: list[tuple[int, int]], rows: int, size: int) -> None:
    counts = [sum(unit["rows"].to_pylist()) for unit in plan_slices(segments_of(shapes), rows, size)]
    assert all(1 <= count <= rows for count in counts)


@given(SHAPES, st.integers(1, 300))
def test_a_unit_ends_with_the_row_that_reaches_its_bytes(shapes: list[tuple[int, int]], size: int) -> None:
    units = [read([unit]) for unit in plan_slices(segments_of(shapes), 10**9, size)]
    bytes_a_row = {f"{number}.jsonl": total / max(rows, 1) for number, (rows, total) in enumerate(shapes)}
    before_last = [sum(bytes_a_row[uri] for _, uri, _ in unit[:-1]) for unit in units]
    assert [total for total in before_last if total > size + 1e-6] == []


@given(SHAPES, LIMITS)
def test_units_but_the_last_are_full(shapes: list[tuple[int, int]], rows: int) -> None:
    counts = [sum(unit["rows"].to_pylist()) for unit in plan_slices(segments_of(shapes), rows, 10**9)]
    assert counts[:-1] == [rows] * (len(counts) - 1)


@given(SHAPES, LIMITS, st.lists(st.booleans(), min_size=240, max_size=240).map(np.array))
def test_what_is_left_of_each_unit_is_its_undone_rows_where_they_were(
    shapes: list[tuple[int, int]], rows: int, done: npt.NDArray[np.bool_]
) -> None:
    units = list(plan_slices(segments_of(shapes), rows, 10**9))
    left = [without(unit, done) for unit in units]
    assert [read([unit]) for unit in left] == [[row for row in read([unit]) if not done[row[0]]] for unit in units]
    assert [unit.schema for unit in left] == [SLICES] * len(units)


@given(SHAPES, st.integers(1, 20), st.integers(0, 3_000))
def test_a_sample_is_different_rows_in_order_from_segments_of_no_more_bytes(
    shapes: list[tuple[int, int]], rows: int, size: int
) -> None:
    segments = segments_of(shapes)
    picked = read([sample(segments, rows, size)])
    assert picked == sorted(set(picked) & set(all_of(shapes)))
    assert len(picked) <= rows
    opened = {path for _, path, _ in picked}
    assert sum(segment.size for segment in segments if segment.entry.path in opened) <= size


@given(SHAPES, st.integers(1, 20))
def test_a_sample_comes_from_all_of_the_input(shapes: list[tuple[int, int]], rows: int) -> None:
    positions = [position for position, _, _ in read([sample(segments_of(shapes), rows, 10**9)])]
    total = len(all_of(shapes))
    assert len(positions) == min(rows, total)
    assert max(np.diff([-1, *positions, total]), default=0) <= -(-total // rows) + 1
