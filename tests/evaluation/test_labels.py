"""Labels in any tabular format, and what is wrong with them by file and row."""

from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.errors import DataError
from ragjob.evaluation.labels import Label, Labels, read_labels
from tests.conftest import parquet

TABLE = pa.table(
    {
        "prompt_id": ["p1", "p2", "p3"],
        "document_ids": [["a.md", "b.md"], ["c.md"], None],
        "answers": [["Agnes"], None, ["12", "twelve"]],
    }
)
JSONL = b"""{"prompt_id": "p1", "document_ids": ["a.md", "b.md"], "answers": "Agnes"}
{"prompt_id": "p2", "document_ids": ["c.md"]}

{"prompt_id": "p3", "document_ids": [], "answers": [12, "twelve"]}
"""
CSV = b"""prompt_id,document_ids,answers
p1,"[""a.md"", ""b.md""]",Agnes
p2,c.md,
p3,,"[12, ""twelve""]"
"""
LABELS = {
    "p1": Label(frozenset({"a.md", "b.md"}), ("Agnes",)),
    "p2": Label(frozenset({"c.md"}), ()),
    "p3": Label(frozenset(), ("12", "twelve")),
}


def labels_in(folder: Path, name: str, content: bytes) -> Labels:
    (folder / name).write_bytes(content)
    return read_labels(str(folder / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [("l.jsonl", JSONL), ("l.csv", CSV), ("l.parquet", parquet(TABLE)), ("l.parquet", parquet(TABLE, rows=1))],
)
def test_every_tabular_format_of_prompts_holds_labels(tmp_path: Path, name: str, content: bytes) -> None:
    assert labels_in(tmp_path, name, content) == Labels("prompt_id", "document_ids", LABELS)


def test_labels_may_name_prompts_by_their_text_and_chunks_instead_of_documents(tmp_path: Path) -> None:
    labels = labels_in(tmp_path, "l.csv", b"prompt,chunk_ids\nWho paid?,c1\n")
    assert labels == Labels("prompt", "chunk_ids", {"Who paid?": Label(frozenset({"c1"}), ())})


def test_numbers_are_ids_and_answers(tmp_path: Path) -> None:
    labels = labels_in(tmp_path, "l.jsonl", b'{"prompt_id": 7, "document_ids": [12], "answers": 1931}')
    assert labels.by_prompt == {"7": Label(frozenset({"12"}), ("1931",))}


def test_a_text_that_only_begins_like_a_list_is_one_text(tmp_path: Path) -> None:
    labels = labels_in(tmp_path, "l.csv", b"prompt_id,answers\np1,[sic] Agnes\n")
    assert labels.by_prompt["p1"].answers == ("[sic] Agnes",)


def test_files_of_a_folder_are_one_set_of_labels(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("prompt_id,document_ids\np1,a.md\n")
    (tmp_path / "two.jsonl").write_text('{"prompt_id": "p2", "answers": ["Agnes"]}')
    assert read_labels(str(tmp_path)).by_prompt == {
        "p1": Label(frozenset({"a.md"}), ()),
        "p2": Label(frozenset(), ("Agnes",)),
    }


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            b"prompt_id,answers\np1,\np2,\np1,\n",
            "row 3 of {0} and row 1 of {0} have the same prompt_id, 'p1'; keep one of them",
        ),
        (b"prompt_id,answers\n,Agnes\n", "row 1 of {0} has no prompt_id; give each row one"),
        (
            b"question,answers\nWho?,Agnes\n",
            "{0} names no prompts: it needs a column prompt_id or prompt, the same one in all label files; "
            "it has question, answers",
        ),
        (
            b"prompt_id,document_id\np1,a.md\n",
            "{0} has none of the columns document_ids, chunk_ids and answers; add one",
        ),
        (
            b"prompt_id,document_ids,chunk_ids\np1,a.md,c1\n",
            "{0} has both document_ids and chunk_ids; remove one of these columns",
        ),
    ],
)
def test_wrong_labels_are_one_line_that_names_the_row_and_the_remedy(
    tmp_path: Path, content: bytes, error: str
) -> None:
    with pytest.raises(DataError) as raised:
        labels_in(tmp_path, "l.csv", content)
    assert str(raised.value) == f"--labels: {error.format(tmp_path / 'l.csv')}"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"prompt_id": "p1", "answers": "a"}\n{"prompt_id"\n', "row 2 of .*: line isn't JSON: .*; correct that row"),
        (
            b'{"prompt_id": ["p1"], "answers": "a"}',
            "column prompt_id of .* holds list<.*>; it must hold text or numbers",
        ),
        (
            b'{"prompt_id": "p1", "answers": {"text": ["Agnes"]}}',
            "column answers of .* holds struct<.*>; it must hold texts or lists of texts",
        ),
    ],
)
def test_rows_and_columns_of_another_kind_are_refused(tmp_path: Path, content: bytes, error: str) -> None:
    with pytest.raises(DataError, match=f"^--labels: {error}$"):
        labels_in(tmp_path, "l.jsonl", content)


@pytest.mark.parametrize("column", ["prompt_id", "answers"])
def test_values_without_an_exact_text_are_refused(tmp_path: Path, column: str) -> None:
    content = parquet(pa.table({"prompt_id": ["1"], "answers": ["a"]} | {column: pa.array([2.0**60])}))
    with pytest.raises(DataError, match=f"^--labels: column {column} of .* holds floats .* exact; write them as text$"):
        labels_in(tmp_path, "l.parquet", content)


@pytest.mark.parametrize("name", ["none.jsonl", "labels.txt"])
def test_labels_that_are_not_there_are_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.txt").write_text("Who paid?")
    with pytest.raises(DataError, match=r"^--labels: "):
        read_labels(str(tmp_path / name))
