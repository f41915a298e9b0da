import pytest

from ragjob.documents.readers.base import Document, Kind
from ragjob.documents.readers.document import Limits
from ragjob.documents.readers.pdf import PDF
from tests.documents.readers.documents import blocks
from tests.documents.readers.pdfs import PASSWORD, loop, page_bomb, pdf

BODY = [
    (10.0, "The line opened in 1931 and was electri-"),
    (10.0, "fied in 1934 (at 600 V)."),
    (10.0, ""),
    (10.0, "Its cars stand in the depot at Harrow Lane."),
]


def test_pages_have_numbers_and_paragraphs_and_large_letters_are_headings() -> None:
    document = PDF().read(pdf([(18, "The harbour line"), *BODY], [], [(14, "Rolling stock"), *BODY]))
    paragraphs = (
        "The line opened in 1931 and was electrified in 1934 (at 600 V).\n\nIts cars stand in the depot at Harrow Lane."
    )
    assert blocks(document) == [
        (Kind.HEADING, 1, 1, "The harbour line"),
        (Kind.PROSE, 0, 1, paragraphs),
        (Kind.HEADING, 2, 3, "Rolling stock"),
        (Kind.PROSE, 0, 3, paragraphs),
    ]


def test_letters_of_many_sizes_are_no_headings() -> None:
    document = PDF().read(pdf([(10, "some words"), (12, "more words"), (14, "larger words")]))
    assert {block.kind for block in document.blocks} == {Kind.PROSE}


def test_properties_are_the_title_and_metadata() -> None:
    content = pdf(
        BODY, info="/Title (The line) /Author (A. B.) /CreationDate (D:19310502093000Z)", catalog="/Lang (en-GB)"
    )
    document = PDF().read(content)
    assert document.title == "The line"
    assert document.metadata == {"author": "A. B.", "date": "1931-05-02T09:30:00", "language": "en-GB"}


def test_a_file_that_pdfium_cant_open_is_read_by_pypdf() -> None:
    content = pdf(BODY).replace(b"/Type /Catalog", b"/Type /Cabinet")
    assert "fied in 1934" in (PDF().read(content).text or "")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (pdf([], []), "no text layer; run OCR first"),
        (pdf(BODY)[:-100], "file is cut short: its end is missing; copy it again"),
        (b"%!PS\n%%EOF", "file isn't a PDF; "),
        (pdf(BODY, trailer=PASSWORD), "file has a password; save it without one"),
        (b"%PDF-1.7\nnothing\n%%EOF\n", "file is damaged or isn't what its name says (Pdf"),
    ],
)
def test_a_file_without_text_that_can_be_read_is_an_error_that_says_what_to_do(content: bytes, error: str) -> None:
    document = PDF().read(content)
    assert document.text is None
    assert (document.error or "").startswith(error)


def test_a_loop_of_pages_is_an_error() -> None:
    document = PDF().read(loop())
    assert (document.error or "").startswith("file is damaged")


def test_as_many_pages_as_the_setting_allows_are_read_and_no_more() -> None:
    content = pdf(*[BODY] * 3)
    assert PDF().read_within(content, Limits(3, 1000)).blocks[-1].page == 3
    assert PDF().read_within(content, Limits(2, 1000)) == Document(
        None, "document has more than 2 pages; split it or leave it out, or raise corpus.max_pages", blocks=[]
    )


def test_a_page_that_unpacks_to_a_thousand_times_its_size_is_an_error() -> None:
    assert "its parser crashed" in (PDF().read(page_bomb()).error or "")
