"""CONTRIBUTING's recipe for a format, followed: a class here, as in a module of its own, and a line in the registry."""

from typing import BinaryIO

import pyarrow as pa
import pytest

from ragjob.documents.readers import FILES, TABLES
from ragjob.documents.readers.base import Document, DocumentReader, TableReader, numbered
from ragjob.documents.settings import Corpus, Prompts
from ragjob.documents.units import plan_slices, scan_corpus, scan_prompts
from ragjob.errors import DataError
from ragjob.stages.read import ReadDocuments, ReadPrompts
from tests.conftest import WriteFiles

ALL = 10**9


class Loud(DocumentReader):
    """Text in capitals that ends with an exclamation mark."""

    def read(self, content: bytes) -> Document:
        if not content:
            raise ValueError("nothing there")
        if not content.endswith(b"!"):
            return Document(None, "file isn't loud: its end is cut off")
        return Document(content.decode().lower())


class Tabs(TableReader):
    """Columns between tabs: names, then a row a line."""

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        names, *rows = [line.split("\t") for line in file.read().decode().splitlines()]
        return numbered(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]))


@pytest.fixture(autouse=True)
def formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, ".loud", f"{__name__}:Loud")
    monkeypatch.setitem(TABLES, ".tabs", f"{__name__}:Tabs")


def test_documents_of_new_formats_are_read(write_files: WriteFiles) -> None:
    corpus = Corpus(id_column="id")
    entries = write_files(
        {"a.loud": b"NO DOGS ON TRAMS!", "b.tabs": b"id\ttext\nx\tone\ny\t \nz\tthree", "c.md": b"four"}
    )
    (unit,) = plan_slices(scan_corpus(entries, corpus), ALL, ALL)
    documents = ReadDocuments(corpus, frozenset(["z"]))(unit).to_pylist()
    assert [(d["document_id"], d["text"], d["error"]) for d in documents] == [
        ("a.loud", "no dogs on trams!", None),
        ("x", "one", None),
        ("y", "", "text is blank"),
        ("c.md", "four", None),
    ]


def test_prompts_of_a_new_format_are_read_in_any_slices(write_files: WriteFiles) -> None:
    entries = write_files({"a.tabs": b"prompt\ttopic\nwho?\ttrams\nwhy?\tdogs", "b.txt": b"when?"})
    inputs = scan_prompts(entries, Prompts())
    read = ReadPrompts(Prompts(), inputs.passed)
    prompts = [prompt for unit in plan_slices(inputs.segments, 1, ALL) for prompt in read(unit).to_pylist()]
    assert [(p["_position"], p["prompt"], p["topic"]) for p in prompts] == [
        (0, "who?", "trams"),
        (1, "why?", "dogs"),
        (2, "when?", None),
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"NO DO", "file isn't loud: its end is cut off"), (b"", "ValueError: nothing there")],
)
def test_what_a_reader_says_or_raises_is_its_documents_error(
    write_files: WriteFiles, content: bytes, error: str
) -> None:
    entries = write_files({"a.loud": content, "b.loud": b"NO DOGS!"})
    (unit,) = plan_slices(scan_corpus(entries, Corpus()), ALL, ALL)
    first, second = ReadDocuments(Corpus(), frozenset())(unit).to_pylist()
    assert (first["text"], first["error"]) == (None, error)
    assert (second["text"], second["error"]) == ("no dogs!", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\nno\tdogs", "corpus.uri: .*a.tabs: can't be read: zip.* is longer than .*; repair the file"),
        (b"body\ndogs", "corpus.text_column: .*a.tabs has no column 'text'; it has body"),
    ],
)
def test_a_table_of_a_new_format_that_wont_do_is_refused(write_files: WriteFiles, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        scan_corpus(write_files({"a.tabs": content}), Corpus())
