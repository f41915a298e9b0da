"""Markdown files: one document each, with its headings, tables and code."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import accumulate
from typing import Literal, NamedTuple

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from ragjob.documents.readers.content import GZIP_MAGIC, decode_text
from ragjob.documents.readers.document import Block, Document, Kind, Limits, Unreadable
from ragjob.documents.readers.parsed import ParsedReader
from ragjob.documents.structure import heading_text

SMALL_BYTES = 1_000_000  # what isn't larger can take neither much time nor memory, and needs no process of its own
FRONT_MATTER_CHARS = 64 * 1024  # what is longer is text
MAX_INTEGER = 2**63  # programs that read metadata may not know a larger one as a number
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?^)(?:---|\.\.\.)[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KINDS = {"heading_open": Kind.HEADING, "table_open": Kind.TABLE, "fence": Kind.CODE, "code_block": Kind.CODE}
_markdown = MarkdownIt("commonmark").enable("table")


class Markdown(ParsedReader):
    """Markdown, kept as it is, like text; only front matter (YAML between two lines of ---) isn't in the text.

    The title is the front matter's, or else a heading of level 1 at the beginning, if no other has that level.
    """

    def read_within(self, content: bytes, limits: Limits) -> Document:
        if len(content) > SMALL_BYTES or content.startswith(GZIP_MAGIC):
            return super().read_within(content, limits)
        try:
            return self.parse(content, limits)
        except Unreadable as error:
            return Document(None, str(error))

    def parse(self, content: bytes, limits: Limits) -> Document:
        text, error = decode_text(content)
        if error or not text:
            return Document(text, error)
        limits.check_chars(len(text))
        text, about = _without_front_matter(text)
        blocks = _blocks(text)
        title = about.pop("title", None)
        stated = str(title) if isinstance(title, str | int | float) else _first_heading(text, blocks)
        return Document(text, None, stated, blocks, about)


class _State(StateBlock):
    """What markdown-it keeps of a text while it goes through it: of its tokens only those that begin our blocks."""

    def push(self, ttype: str, tag: str, nesting: Literal[-1, 0, 1]) -> Token:
        token = super().push(ttype, tag, nesting)
        if ttype not in _KINDS:
            self.tokens.pop()
        return token


class _Span(NamedTuple):
    """Lines that are one block, the last one not included."""

    first: int
    end: int
    kind: Kind
    level: int


def _without_front_matter(text: str) -> tuple[str, dict[str, object]]:
    """The text after its front matter, and the plain values, and lists of these, in the front matter."""
    matter = _FRONT_MATTER.match(text, 0, FRONT_MATTER_CHARS)
    if not matter:
        return text, {}
    try:
        # An alias may stand for itself or, together with others, for more than fits into memory.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(matter[1], yaml.SafeLoader)):
            return text, {}
        values = yaml.safe_load(matter[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(values, Mapping):
        return text, {}
    plain = {name: _plain(value) for name, value in values.items() if isinstance(name, str)}
    return text[matter.end() :], {name: value for name, value in plain.items() if value is not None}


def _plain(value: object) -> object:
    """A value as JSON has it; None for a mapping, for a list of anything but plain values, and for what isn't one."""
    match value:
        case bool() | str():
            return value
        case int():
            return value if -MAX_INTEGER <= value < MAX_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else None
        case date():
            return value.isoformat()
        case list():
            items = [None if isinstance(item, list) else _plain(item) for item in value]
            return None if None in items else items
    return None


def _blocks(text: str) -> list[Block]:
    borders = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    blocks, line = [], 0
    for span in _spans(text):
        if span.first > line:
            blocks.append(Block(borders[line]))
        blocks.append(Block(borders[span.first], span.kind, span.level))
        line = span.end
    if blocks and borders[line] < len(text):
        blocks.append(Block(borders[line]))
    return blocks


def _spans(text: str) -> Iterator[_Span]:
    """The blocks that aren't prose. Headings inside quotations and lists begin no section."""
    state = _State(text.replace("\r\n", "\n"), _markdown, {}, [])
    _markdown.block.tokenize(state, 0, state.lineMax)
    for token in state.tokens:
        kind = _KINDS[token.type]
        if token.map and not (kind is Kind.HEADING and token.level):
            first, end = token.map
            yield _Span(first, end, kind, int(token.tag[1:]) if kind is Kind.HEADING else 0)


def _first_heading(text: str, blocks: list[Block]) -> str | None:
    """The heading of level 1 that the text begins with, if there is no other."""
    first = [number for number, block in enumerate(blocks) if block.level == 1]
    if len(first) != 1 or text[: blocks[first[0]].start].strip():
        return None
    end = blocks[first[0] + 1].start if first[0] + 1 < len(blocks) else None
    return heading_text(text[blocks[first[0]].start : end]) or None
