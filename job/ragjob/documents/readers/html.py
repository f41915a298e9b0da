"""HTML: what a page is about, without its navigation."""

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Any

from ragjob.documents.readers.content import as_utf8
from ragjob.documents.readers.document import Document, Kind, Limits, Unreadable
from ragjob.documents.readers.draft import Draft, table_line
from ragjob.documents.readers.parsed import ParsedReader

MAX_CELL_CHARS = 1000  # one with more lays out a page: its table is no data
MAX_CHANGED = 1000  # tables, and lists, of a page: others are text without bars, or navigation if they look like it
MAX_DEPTH = 512  # as in browsers
SEEN = "data-ragjob"  # an attribute
TABLE_MARK = "\ue000"  # begins what stands in the place of a table, as preformatted text
LAYOUT = (
    "table, h1, h2, h3, h4, h5, h6, ul, ol, pre, script, style"  # such elements in a table show that it lays out a page
)
SHALLOW_LISTS = ":is(body > ul, body > * > ul, body > * > * > ul)"  # are taken for navigation
HEAD_BYTES = 2048
_CHARSET = re.compile(rb"<meta[^>]*charset\s*=\s*[\"']?\s*([\w-]+)", re.I)
_ATTRIBUTES = r"(?:[^\">]|\"[^\"]*\")*"
_ROW = re.compile(rf"<tr\b{_ATTRIBUTES}>")
_CELL = re.compile(rf"<t[dh]\b{_ATTRIBUTES}>(.*?)</t[dh]>", re.S)
_CAPTION = re.compile(rf"<caption\b{_ATTRIBUTES}>(.*?)</caption>", re.S)
_BLOCK, _INLINE = (
    re.compile(rf"</?(?:p|div|br|dd|dt)\b{_ATTRIBUTES}>"),
    re.compile(rf"</?\w{_ATTRIBUTES}>|<!--.*?-->", re.S),
)
_TAG = re.compile(r"<(/?)(h[1-6]|p|ul|ol|li|pre|br)>")
# Names of <meta>, and properties, as metadata: the first that is there.
META = {
    "author": ("author", "article:author", "dc.creator", "dcterms.creator"),
    "date": ("article:published_time", "date", "dc.date", "dcterms.date", "dcterms.created", "pubdate"),
    "modified": ("article:modified_time", "last-modified", "dcterms.modified"),
    "description": ("description", "og:description", "dc.description"),
    "keywords": ("keywords",),
}


class HTML(ParsedReader):
    """A page's main content: headings, paragraphs, lists, tables and preformatted text. No script runs."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        tree = parse_html(as_utf8(content))
        draft = Draft(limits)
        add_html(draft, tree, main_content=True)
        return draft.document(tree.title, _metadata(tree))


def parse_html(content: bytes) -> Any:
    """A page's tree. It is read as UTF-8 if possible, else in the encoding that it states or seems to have."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    try:
        return HTMLTree.parse(content.decode("utf-8"))
    except UnicodeDecodeError:
        stated = _CHARSET.search(content[:HEAD_BYTES])
        encoding = stated[1].decode() if stated else detect_encoding(content)
        return HTMLTree.parse(bytes_to_str(content, encoding or "windows-1252"))


def add_html(draft: Draft, tree: Any, *, main_content: bool) -> None:
    """Append the content of a page, or only its main content."""
    from resiliparse.extract.html2text import extract_plain_text

    if tree.body is None:
        return
    if tree.body.query_selector(" > ".join("*" * MAX_DEPTH)):
        raise Unreadable(f"elements are nested more than {MAX_DEPTH} deep; leave the file out")
    _replace(tree, f"table:not(:has({LAYOUT}))", _table_as_lines)
    if main_content:
        _replace(tree, SHALLOW_LISTS, _list_with_numbers)
    _Blocks(draft).read(extract_plain_text(tree, preserve_formatting="minimal_html", main_content=main_content))


def _metadata(tree: Any) -> dict[str, object]:
    given: dict[str, str] = {}
    element = tree.head.first_element_child if tree.head else None
    while element is not None:
        name = element.getattr("name") or element.getattr("property")
        if element.tag == "meta" and name:
            given.setdefault(name.lower(), element.getattr("content") or "")
        element = element.next_element_sibling
    about: dict[str, object] = {
        ours: next((given[name] for name in names if given.get(name)), None) for ours, names in META.items()
    }
    root = tree.document.query_selector("html")
    return about | {"language": root.getattr("lang") if root else None}


def _replace(tree: Any, selector: str, markup: Callable[[Any], str | None]) -> None:
    """Put other markup in the place of elements, one after another; None leaves one as it is.

    They aren't listed first: to go through a list of elements takes the square of its length.
    """
    for _ in range(MAX_CHANGED):
        element = tree.body.query_selector(f"{selector}:not([{SEEN}])")
        if element is None:
            return
        other = markup(element)
        if other is None:
            element.setattr(SEEN, "")
        else:
            element.outer_html = other


def _table_as_lines(table: Any) -> str | None:
    """Preformatted text with a row on each line, for a table that holds data."""
    rows = _rows(table)
    if any(len(cell) > MAX_CELL_CHARS for row in rows for cell in row):
        return None
    text = "\n".join(filter(None, map(table_line, rows)))
    return f"<pre>{TABLE_MARK}{escape(text)}</pre>"


def _list_with_numbers(items: Any) -> str | None:
    """A list with numbers, for one of text: with those it isn't taken for navigation."""
    linked, all_items = len(items.query_selector_all("li:has(a)")), len(items.query_selector_all("li"))
    return f"<ol>{items.inner_html}</ol>" if 2 * linked <= all_items else None


def _rows(table: Any) -> list[list[str]]:
    """The texts of a table's cells, after its caption."""
    caption, *rows = _ROW.split(table.inner_html)
    return [[_plain(cell)] for cell in _CAPTION.findall(caption)] + [
        [_plain(cell) for cell in _CELL.findall(row)] for row in rows
    ]


def _plain(markup: str) -> str:
    if "<" not in markup:
        return unescape(markup)
    return unescape(_INLINE.sub("", _BLOCK.sub(" ", markup)))


class _Blocks:
    """Appends what resiliparse extracts to a draft: text with few tags, and none of them with attributes."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._text = ""
        self._depth = 0  # of lists
        self._bullet, self._gap = "", ""  # before the next text in a list
        self._is_pre = False

    def read(self, markup: str) -> None:
        at = 0
        for tag in _TAG.finditer(markup):
            self._text += markup[at : tag.start()]
            at = tag.end()
            self._meet(tag[2], is_end=bool(tag[1]))
        self._text += markup[at:]
        self._flush()

    def _meet(self, name: str, *, is_end: bool) -> None:
        if self._is_pre and name != "pre":
            return
        if name == "br":
            self._text += "\n"
            return
        if name == "pre":
            self._flush_pre() if is_end else self._flush()
            self._is_pre = not is_end
            return
        level = int(name[1]) if is_end and name[0] == "h" else 0
        self._flush(level)
        if name in ("ul", "ol"):
            self._gap = self._gap if self._depth else "\n\n"
            self._depth += -1 if is_end else 1
        if name == "li" and not is_end:
            self._bullet = "- "

    def _flush(self, level: int = 0) -> None:
        """Append the text before a tag; outside of all tags, line by line."""
        text, self._text = self._text, ""
        if not text or text.isspace():
            return
        text = unescape(text).strip()
        if level:
            self._draft.add_heading(text, level)
        elif self._depth:
            self._draft.add(self._bullet + " ".join(text.split()), gap=self._gap)
            self._bullet, self._gap = "", "\n"
        else:
            self._draft.add("\n".join(" ".join(line.split()) for line in text.split("\n")))

    def _flush_pre(self) -> None:
        text, self._text = unescape(self._text), ""
        if text.startswith(TABLE_MARK):
            self._draft.add(text.removeprefix(TABLE_MARK), Kind.TABLE)
        else:
            self._draft.add(text, Kind.CODE)
