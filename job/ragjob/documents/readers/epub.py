"""EPUB: the chapters of a book, in their order."""

import posixpath
from typing import Any
from urllib.parse import unquote
from zipfile import ZipFile

from ragjob.documents.readers.archive import open_archive, parse_xml, properties
from ragjob.documents.readers.document import Document, Limits, Unreadable
from ragjob.documents.readers.draft import Draft
from ragjob.documents.readers.html import add_html, parse_html
from ragjob.documents.readers.parsed import ParsedReader

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
XHTML = "application/xhtml+xml"


class EPUB(ParsedReader):
    """Headings, paragraphs, lists and tables of a book without copy protection. Its pages aren't known."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        archive = open_archive(content)
        place = parse_xml(archive.read(CONTAINER)).find(".//{*}rootfile").get("full-path")
        package = parse_xml(archive.read(place))
        chapters = _chapters(package, posixpath.dirname(place))
        _check_open(archive, chapters)
        draft = Draft(limits)
        for chapter in chapters:
            add_html(draft, parse_html(archive.read(chapter)), main_content=False)
        title, about = properties(package.find("{*}metadata"))
        dates = [element.text for element in package.iterfind("{*}metadata/{http://purl.org/dc/elements/1.1/}date")]
        return draft.document(title, about | {"date": next(iter(dates), None)})


def _chapters(package: Any, folder: str) -> list[str]:
    """The names of a book's chapters in the archive, as they follow one another."""
    items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    read = [items[ref.get("idref")] for ref in package.iterfind("{*}spine/{*}itemref") if ref.get("idref") in items]
    return [
        posixpath.normpath(posixpath.join(folder, unquote(item.get("href"))))
        for item in read
        if item.get("media-type") == XHTML
    ]


def _check_open(archive: ZipFile, chapters: list[str]) -> None:
    """Raise `Unreadable` for a book whose chapters are encrypted. Fonts often are."""
    if ENCRYPTION not in archive.namelist():
        return
    references = parse_xml(archive.read(ENCRYPTION)).iterfind(".//{*}CipherReference")
    if {unquote(reference.get("URI")) for reference in references} & {*chapters}:
        raise Unreadable("book has copy protection; leave it out, or get a copy without it")
