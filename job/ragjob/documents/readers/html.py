"""HTML: what a page is about, without its navigation."""

import re
from html import unescape
from typing import Any

from ragjob.documents.readers.content import as_utf8
from ragjob.documents.readers.document import Document, Kind, Limits
from ragjob.documents.readers.draft import Draft, table_line
from ragjob.documents.readers.parsed import ParsedReader

MAX_CELL_CHARS = 1000  # one with more lays out a page: its table is no data
LINKED = 0.5  # of a list's text: one with more is navigation
TABLE_MARK = "\ue000"  # begins what stands in the place of a table, as preformatted text
HEAD_BYTES = 2048
_CHARSET = re.compile(rb"<meta[^>]*charset\s*=\s*[\"']?\s*([\w-]+)", re.I)
_LAYOUT = "table, h1, h2, h3, h4, h5, h6, ul, ol, pre"
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
    """A page's tree. It is in UTF-8 if it can be, else in the encoding that it states or that it looks like."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    try:
        return HTMLTree.parse(content.decode("utf-8"))
    except UnicodeDecodeError:
        stated = _CHARSET.search(content[:HEAD_BYTES])
        encoding = stated[1].decode() if stated else detect_encoding(content)
        return HTMLTree.parse(bytes_to_str(content, encoding or "windows-1252"))


def add_html(draft: Draft, tree: Any, *, main_content: bool) -> None:
    """Append the content of a page, or what is its main content."""
    from resiliparse.extract.html2text import extract_plain_text

    if tree.body is None:
        return
    _mark_tables(tree)
    if main_content:
        _keep_lists(tree)
    _Blocks(draft).read(extract_plain_text(tree, preserve_formatting="minimal_html", main_content=main_content))


def _metadata(tree: Any) -> dict[str, object]:
    given: dict[str, str] = {}
    for meta in tree.document.query_selector_all("meta[content]"):
        name = meta.getattr("name") or meta.getattr("property") or ""
        given.setdefault(name.lower(), meta.getattr("content"))
    about: dict[str, object] = {
        ours: next((given[name] for name in names if given.get(name)), None) for ours, names in META.items()
    }
    root = tree.document.query_selector("html")
    return about | {"language": root.getattr("lang") if root else None}


def _mark_tables(tree: Any) -> None:
    """Put preformatted text, a row on each line, in the place of each table that holds data."""
    for table in list(tree.body.query_selector_all("table")):
        if table.query_selector(_LAYOUT):
            continue
        rows = [[cell.text for cell in row.query_selector_all("th, td")] for row in table.query_selector_all("tr")]
        if any(len(cell) > MAX_CELL_CHARS for row in rows for cell in row):
            continue
        caption = table.query_selector("caption")
        lines = [" ".join(caption.text.split())] if caption else []
        lines += filter(None, map(table_line, rows))
        place = tree.create_element("pre")
        place.text = TABLE_MARK + "\n".join(lines)
        table.parent.replace_child(place, table)


def _keep_lists(tree: Any) -> None:
    """Number the lists that hold text: without numbers they are taken for navigation."""
    for items in list(tree.body.query_selector_all("ul")):
        linked = sum(len(link.text) for link in items.query_selector_all("a"))
        if linked > LINKED * len(items.text):
            continue
        numbered = tree.create_element("ol")
        while items.first_child is not None:
            numbered.append_child(items.first_child)
        items.parent.replace_child(numbered, items)


class _Blocks:
    """Appends what resiliparse extracts to a draft: text with few tags, and none of them with attributes."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._text = ""
        self._depth = 0  # of lists
        self._item: str | None = None  # what stands before the text, if it begins an item of a list
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
            self._depth += -1 if is_end else 1
        if name == "li" and not is_end:
            self._item = "  " * (self._depth - 1) + "- "

    def _flush(self, level: int = 0) -> None:
        """Append the text before a tag; of what no tag surrounds, each line."""
        text, self._text = unescape(self._text).strip(), ""
        if not text:
            return
        if level:
            self._draft.add_heading(text, level)
        elif self._depth:
            lines = " ".join(text.split())
            self._draft.add((self._item or "  " * self._depth) + lines, gap="\n")
            self._item = None
        else:
            self._draft.add("\n".join(" ".join(line.split()) for line in text.split("\n")))

    def _flush_pre(self) -> None:
        text, self._text = unescape(self._text), ""
        if text.startswith(TABLE_MARK):
            self._draft.add(text.removeprefix(TABLE_MARK), Kind.TABLE)
        else:
            self._draft.add(text, Kind.CODE)
