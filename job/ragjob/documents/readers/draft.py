"""Puts a document's text together, block by block."""

import re
from collections.abc import Iterable, Mapping

from ragjob.documents.readers.document import Block, Document, Kind, Limits

MAX_VALUE_CHARS = 1000  # of a title, or of a value of the metadata
# What is no text: control characters, halves of surrogate pairs, and what Unicode says is no character.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_ODD = re.compile(f"{_NO_TEXT.pattern}|[\r\x85\u2028\u2029]")
_LINE_END = re.compile("\r\n?|[\u2028\u2029\x85]")


class Draft:
    """The text so far, with its blocks. An empty line separates blocks, and paragraphs.

    `limits` are checked as it grows. Paragraphs that follow one another on a page are one block.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._chars = 0
        self._page: int | None = None
        self._ends_sections = False

    def turn_page(self, *, ends_sections: bool = False) -> int:
        """Begin the next page, slide or sheet, and return its number. Raises `Unreadable` for one too many.

        If it `ends_sections`, it isn't under the headings of the pages before.
        """
        page = (self._page or 0) + 1
        self._limits.check_pages(page)
        self._page = page
        self._ends_sections = ends_sections
        return page

    def add(self, text: str, kind: Kind = Kind.PROSE, level: int = 0, gap: str = "\n\n") -> None:
        """Append a text, unless it is blank, with `gap` before it in its block. Raises `Unreadable` at the limit.

        Prose continues the block before it, and so does any text whose gap is only a line's end.
        """
        text = tidy(text).strip("\n") if kind is Kind.CODE else tidy(text).strip()
        if not text or text.isspace():
            return
        last = self._blocks[-1] if self._blocks else None
        is_alike = last is not None and (last.kind, last.page) == (kind, self._page)
        goes_on = is_alike and (kind is Kind.PROSE or gap == "\n")
        if last is not None:
            text = (gap if goes_on else "\n\n") + text
        if not goes_on:
            self._blocks.append(
                Block(self._chars + (2 if last else 0), kind, level or int(self._ends_sections), self._page)
            )
            self._ends_sections = False
        self._parts.append(text)
        self._chars += len(text)
        self._limits.check_chars(self._chars)

    def add_heading(self, text: str, level: int) -> None:
        """Append a heading, on one line."""
        self.add(" ".join(text.split()), Kind.HEADING, level)

    def add_items(self, items: Iterable[str]) -> None:
        """Append a list, with an item on each line."""
        self.add("\n".join(f"- {' '.join(item.split())}" for item in items if item.strip()))

    def add_rows(self, rows: Iterable[Iterable[str]]) -> None:
        """Append a table: each row a line, with bars between its cells."""
        self.add("\n".join(filter(None, map(table_line, rows))), Kind.TABLE)

    def document(self, title: str | None = None, metadata: Mapping[str, object] | None = None) -> Document:
        """The whole document. Metadata without a value is left out."""
        known = {name: _value(value) for name, value in (metadata or {}).items()}
        about = {name: value for name, value in known.items() if value not in ("", None)}
        name = str(_value(title or "")) or None
        if not self._parts:
            return Document("", "file has no text; leave it out", name, (), about)
        return Document("".join(self._parts), None, name, tuple(self._blocks), about)


def table_line(cells: Iterable[str]) -> str:
    """A row of a table on one line; empty for a blank row.

    >>> table_line(["Nordhavn", "", " 42\\n cars", ""])
    'Nordhavn |  | 42 cars'
    """
    texts = [" ".join(cell.split()) for cell in cells]
    return " | ".join(texts).rstrip(" |") if any(texts) else ""


def tidy(text: str) -> str:
    """A text whose lines end with LF, without characters that aren't text."""
    if text.isprintable() or not _ODD.search(text):  # the first takes half as long
        return text
    return _NO_TEXT.sub("", _LINE_END.sub("\n", text))


def _value(value: object) -> object:
    return " ".join(tidy(value).split())[:MAX_VALUE_CHARS] if isinstance(value, str) else value
