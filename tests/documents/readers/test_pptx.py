"""python-pptx writes these files, too: no other library for it is at hand."""

import io

import pptx
import pytest

from ragjob.documents.readers.base import Kind
from ragjob.documents.readers.document import Limits
from ragjob.documents.readers.pptx import PPTX
from tests.documents.readers.documents import archive, blocks, unpacked


@pytest.fixture(scope="module")
def slides() -> bytes:
    presentation = pptx.Presentation()
    presentation.core_properties.title = "The harbour line"
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Rolling\nstock"
    first.placeholders[1].text = "It has forty cars.\nAnd a crane."
    first.notes_slide.notes_text_frame.text = "Mention the fire of 1931."
    second = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = second.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for cell, text in zip(table.iter_cells(), ["Depot", "Cars", "Nordhavn", "42"], strict=True):
        cell.text = text
    box = second.shapes.add_group_shape().shapes.add_textbox(0, 0, 100, 100)
    box.text_frame.text = "In a group."
    content = io.BytesIO()
    presentation.save(content)
    return content.getvalue()


def test_each_slide_is_a_page_of_blocks_and_one_without_a_title_ends_the_section_before(slides: bytes) -> None:
    document = PPTX().read(slides)
    assert blocks(document) == [
        (Kind.HEADING, 1, 1, "Rolling stock"),
        (Kind.PROSE, 0, 1, "It has forty cars.\nAnd a crane.\n\nMention the fire of 1931."),
        (Kind.TABLE, 1, 2, "Depot | Cars\nNordhavn | 42"),
        (Kind.PROSE, 0, 2, "In a group."),
    ]
    assert document.title == "The harbour line"


def test_more_slides_than_the_setting_allows_are_an_error(slides: bytes) -> None:
    assert (PPTX().read_within(slides, Limits(1, 1000)).error or "").startswith("document has more than 1 pages")


def test_a_plain_shape_without_a_type_is_read(slides: bytes) -> None:
    name = "ppt/slides/slide1.xml"
    shape = (
        '<p:sp><p:nvSpPr><p:cNvPr id="99" name="plain"/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/>'
        "<p:txBody><a:bodyPr/><a:p><a:r><a:t>Typeless.</a:t></a:r></a:p></p:txBody></p:sp></p:spTree>"
    )
    files = unpacked(slides)
    document = PPTX().read(archive(files | {name: files[name].replace(b"</p:spTree>", shape.encode())}))
    assert document.error is None
    assert "Typeless." in (document.text or "")
