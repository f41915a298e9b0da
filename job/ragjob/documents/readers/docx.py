"""DOCX: the body of a Word document."""

import io
import re
from collections.abc import Iterator
from typing import Any

from ragjob.documents.readers.archive import core_properties, open_archive
from ragjob.documents.readers.document import Document, Limits
from ragjob.documents.readers.draft import Draft
from ragjob.documents.readers.parsed import ParsedReader

HEADING = re.compile(r"heading (\d)$", re.I)
TITLE = "title"
MAX_STYLES = 20  # that one is based on, one on another
# Elements whose text isn't the document's: deleted, moved away, or there a second time for older programs.
LEFT_OUT = frozenset({"del", "moveFrom", "Fallback", "instrText", "delText", "pPr", "rPr"})


class DOCX(ParsedReader):
    """Headings, paragraphs, lists, tables and text boxes, with tracked changes accepted. Its pages aren't known."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        import docx

        title, about = core_properties(open_archive(content))
        word = docx.Document(io.BytesIO(content))
        reading = _Reading(Draft(limits), word.styles)
        reading.read(word.element.body)
        return reading.draft.document(title or reading.title, about)


class _Reading:
    """What was read of a document so far."""

    def __init__(self, draft: Draft, styles: Any) -> None:
        self.draft = draft
        self.title: str | None = None  # the first paragraph that has the style of one
        self._styles = {style.style_id: style for style in styles}
        self._items: list[str] = []  # of the list that is being read

    def read(self, parent: Any) -> None:
        """Append what an element holds."""
        self._add_blocks(parent)
        self._end_list()

    def _add_blocks(self, parent: Any) -> None:
        for element in parent.iterchildren("{*}*"):
            match _name(element):
                case "p":
                    self._add_paragraph(element)
                case "tbl":
                    self._end_list()
                    self.draft.add_rows(_rows(element))
                case name if name not in LEFT_OUT:
                    self._add_blocks(element)

    def _add_paragraph(self, paragraph: Any) -> None:
        text = "".join(_texts(paragraph))
        if not text.strip():
            return
        level, is_item = self._look(paragraph)
        if is_item and not level:
            self._items.append(text)
            return
        self._end_list()
        if level:
            self.draft.add_heading(text, level)
        else:
            self.draft.add(text)

    def _end_list(self) -> None:
        self.draft.add_items(self._items)
        self._items = []

    def _look(self, paragraph: Any) -> tuple[int, bool]:
        """A paragraph's level as a heading, 0 for none, and whether it is an item of a list."""
        formats = paragraph.find("{*}pPr")
        if formats is None:
            return 0, False
        level, is_item = _outline(formats), formats.find("{*}numPr") is not None
        style_id = _value(formats.find("{*}pStyle"))
        for _ in range(MAX_STYLES):
            style = self._styles.get(style_id)
            if style is None:
                break
            if style.name.lower() == TITLE:
                self.title = self.title or "".join(_texts(paragraph))
                return 1, False
            heading = HEADING.match(style.name)
            inherited = style.element.find("{*}pPr")
            if inherited is not None:
                is_item = is_item or inherited.find("{*}numPr") is not None
            if not level:
                level = int(heading[1]) if heading else _outline(inherited)
            style_id = style.base_style.style_id if style.base_style is not None else None
        return level, is_item


def _outline(formats: Any) -> int:
    """The level that a paragraph or a style has in the outline, from 1; 0 for body text."""
    level = None if formats is None else _value(formats.find("{*}outlineLvl"))
    return int(level) + 1 if level and int(level) < 9 else 0


def _rows(table: Any) -> Iterator[list[str]]:
    """The cells of each row; a cell that goes on from the row above is blank."""
    for row in table.iterchildren("{*}tr"):
        yield ["".join(_texts(cell)) for cell in row.iterchildren("{*}tc")]


def _texts(parent: Any) -> Iterator[str]:
    for element in parent.iterchildren("{*}*"):
        match _name(element):
            case "t":
                yield element.text or ""
            case "tab":
                yield "\t"
            case "br" | "cr":
                yield "\n"
            case "noBreakHyphen":
                yield "-"
            case "tc":
                yield from _texts(element)
                yield " "
            case name if name not in LEFT_OUT:
                yield from _texts(element)
                if name == "p":
                    yield "\n"


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _value(element: Any) -> str | None:
    if element is None:
        return None
    return next((value for name, value in element.items() if name.endswith("}val")), None)
