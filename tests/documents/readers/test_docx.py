"""python-docx writes these files, too: no other library for it is at hand. What it can't write is added as XML."""

import io

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from ragjob.documents.readers.base import Kind
from ragjob.documents.readers.docx import DOCX
from tests.documents.readers.documents import archive, blocks, unpacked


@pytest.fixture(scope="module")
def word() -> bytes:
    document = docx.Document()
    document.core_properties.title = "The harbour line"
    document.core_properties.author = "A. B."
    document.core_properties.comments = ""
    document.add_heading("Rolling stock", 1)
    document.add_paragraph("The line has\ttwo depots.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Number")
    document.add_heading("Depots", 2)
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Depot", "Cars", "Nordhavn\nNorth", "42"], strict=True):
        cell.text = text
    document.element.body.append(
        parse_xml(
            f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p>"
            "<w:ins><w:r><w:t>Added</w:t></w:r></w:ins><w:del><w:r><w:delText>Deleted</w:delText></w:r></w:del>"
            "<w:r><w:t xml:space='preserve'> text.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        )
    )
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def test_the_body_is_read_in_blocks(word: bytes) -> None:
    assert blocks(DOCX().read(word)) == [
        (Kind.HEADING, 1, None, "Rolling stock"),
        (Kind.PROSE, 0, None, "The line has\ttwo depots.\n\n- first\n- second"),
        (Kind.HEADING, 2, None, "Depots"),
        (Kind.TABLE, 0, None, "Depot | Cars\nNordhavn North | 42"),
        (Kind.PROSE, 0, None, "Added text."),
    ]


def test_properties_are_the_title_and_metadata(word: bytes) -> None:
    document = DOCX().read(word)
    assert (document.title, document.metadata["author"]) == ("The harbour line", "A. B.")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda content: content[: len(content) // 2], "file is cut short or damaged (File is not a zip file)"),
        (
            lambda _: b"\xd0\xcf\x11\xe0" + b"\0" * 600,
            "file has a password or is in an old Office format; save it without",
        ),
        (lambda content: archive(unpacked(content) | {"word/document.xml": b"<w"}), "file is damaged or isn't what"),
        (lambda _: archive({"a.txt": b"a"}), "file is damaged or isn't what its name says (KeyError"),
        (lambda content: archive(unpacked(content) | {"x": bytes(40_000_000)}), "bytes unpack to more than 100 times"),
    ],
    ids=["cut", "ole", "xml", "other", "bomb"],
)
def test_a_damaged_file_is_an_error(word: bytes, damage, error: str) -> None:  # type: ignore[no-untyped-def]
    document = DOCX().read(damage(word))
    assert document.text is None
    assert error in (document.error or "")


def test_entities_are_left_alone(word: bytes) -> None:
    files = unpacked(word)
    declared = b'<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]><w:document'
    files["word/document.xml"] = (
        files["word/document.xml"].replace(b"<w:document", declared, 1).replace(b"two depots", b"&secret;")
    )
    assert "The line has\n" in (DOCX().read(archive(files)).text or "")
