import pytest

from ragjob.documents.readers.base import Kind
from ragjob.documents.readers.epub import EPUB
from tests.documents.readers.documents import archive, blocks

CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The harbour line</dc:title>
<dc:creator>A. B.</dc:creator><dc:language>en</dc:language><dc:date>1931-05-02</dc:date></metadata>
<manifest><item id="two" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/one%201.xhtml" media-type="application/xhtml+xml"/>
<item id="css" href="a.css" media-type="text/css"/></manifest>
<spine><itemref idref="one"/><itemref idref="css"/><itemref idref="two"/></spine></package>"""
ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData><enc:CipherReference URI="{}"/>
</enc:CipherData></enc:EncryptedData></encryption>"""
BOOK = {
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/text/one 1.xhtml": "<html><body><h1>Opening</h1><p>It opened in 1931.</p></body></html>",
    "OEBPS/text/two.xhtml": "<html><body><h1>Depots</h1><ul><li>Nordhavn</li></ul></body></html>",
}


def test_chapters_are_read_in_the_order_of_the_spine() -> None:
    document = EPUB().read(archive(BOOK))
    assert blocks(document) == [
        (Kind.HEADING, 1, None, "Opening"),
        (Kind.PROSE, 0, None, "It opened in 1931."),
        (Kind.HEADING, 1, None, "Depots"),
        (Kind.PROSE, 0, None, "- Nordhavn"),
    ]
    assert document.title == "The harbour line"
    assert document.metadata == {"author": "A. B.", "language": "en", "date": "1931-05-02"}


def test_a_book_may_have_encrypted_fonts_but_no_encrypted_chapters() -> None:
    fonts = ENCRYPTION.format("OEBPS/font.otf")
    assert EPUB().read(archive(BOOK | {"META-INF/encryption.xml": fonts})).error is None
    chapters = ENCRYPTION.format("OEBPS/text/one%201.xhtml")
    assert EPUB().read(archive(BOOK | {"META-INF/encryption.xml": chapters})).error == (
        "book has copy protection; leave it out, or get a copy without it"
    )


@pytest.mark.parametrize("name", BOOK)
def test_a_book_that_lacks_a_file_is_an_error(name: str) -> None:
    document = EPUB().read(archive({other: body for other, body in BOOK.items() if other != name}))
    assert (document.error or "").startswith("file is damaged or isn't what its name says (KeyError")
