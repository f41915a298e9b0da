from pkgutil import resolve_name

import pytest

from ragjob.documents import readers
from ragjob.documents.readers import DOCUMENTS, PROMPTS, document_reader, prompt_reader
from ragjob.documents.readers.base import DocumentReader, TableReader


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
