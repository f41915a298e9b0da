from pkgutil import resolve_name

import pytest

from ragjob.documents import readers
from ragjob.documents.readers import DOCUMENTS, PROMPTS, document_reader, prompt_reader, suffixes
from ragjob.documents.readers.base import DocumentReader, TableReader
from ragjob.documents.readers.markdown import Markdown
from ragjob.documents.readers.text import TextFile
from tests.conftest import WriteFiles


@pytest.mark.parametrize("suffix", readers.FILES)
def test_a_file_that_is_a_document_has_a_reader_of_documents(suffix: str) -> None:
    assert isinstance(document_reader(f"a/b{suffix}"), DocumentReader)


@pytest.mark.parametrize("suffix", readers.TABLES)
def test_a_table_has_one_reader_of_documents_and_prompts(suffix: str) -> None:
    assert isinstance(prompt_reader(f"a/b{suffix}"), TableReader)
    assert document_reader(f"a/b{suffix}") is prompt_reader(f"a/b{suffix}")


def test_text_is_a_document_in_the_corpus_and_lines_among_the_prompts() -> None:
    assert isinstance(document_reader("a.txt"), DocumentReader)
    assert isinstance(prompt_reader("a.txt"), TableReader)


@pytest.mark.parametrize("reader", sorted({*DOCUMENTS.values(), *PROMPTS.values()}))
def test_a_reader_says_what_it_reads(reader: str) -> None:
    assert resolve_name(reader).__doc__


def test_files_are_listed_before_tables() -> None:
    assert tuple(DOCUMENTS) == (*readers.FILES, *readers.TABLES)
    assert tuple(PROMPTS) == (*readers.LINES, *readers.TABLES)


@pytest.mark.parametrize("name", ["a.TXT", "A.Md", "a.txt.gz", "a.md.GZ"])
def test_a_document_is_told_by_its_suffix_in_either_case_and_packed(name: str) -> None:
    assert isinstance(document_reader(name), TextFile | Markdown)


@pytest.mark.parametrize("name", ["a.ndjson", "a.JSON", "a.jsonl.gz", "a.b.NDJSON.GZ"])
def test_all_json_has_one_reader(name: str) -> None:
    assert document_reader(name) is prompt_reader("a.jsonl")


def test_formats_of_text_may_be_packed_and_others_may_not() -> None:
    packed = {suffix.removesuffix(".gz") for suffix in suffixes(DOCUMENTS) if suffix.endswith(".gz")}
    assert packed == {".txt", ".md", ".markdown", ".html", ".htm", ".csv", ".jsonl", ".ndjson", ".json"}
    assert set(DOCUMENTS) - packed == {".pdf", ".docx", ".pptx", ".xlsx", ".epub", ".parquet"}


def test_files_in_upper_case_and_packed_ones_are_listed(write_files: WriteFiles) -> None:
    names = ["A.TXT", "b.md.gz", "c.ndjson", "d.JSON.gz", "e.parquet.gz", "f.gz", "g.png"]
    assert [entry.path for entry in write_files(dict.fromkeys(names, b""))] == names[:4]
