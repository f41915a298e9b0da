"""What a document's blocks say about a passage: the page that it is on, and the headings above it."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from ragjob.documents.readers.document import Block, Kind

MAX_HEADING_CHARS = 200  # what is longer was hardly meant as one
# What Markdown puts around a heading's words: # before them and perhaps behind, or a line of = or - below.
_HASHES = re.compile(r"#{1,6}(?:[ \t]+(.*?))?(?:[ \t]+#+)?", re.DOTALL)
_UNDERLINE = re.compile(r"\n[ \t]*(?:=+|-+)\Z")


class Page(NamedTuple):
    """A page's text, which begins with the character `start` of the document, and its blocks, counted from there."""

    start: int
    text: str
    number: int | None
    blocks: Sequence[Block]


class Heading(NamedTuple):
    """A heading whose line begins with the character `start` of the document."""

    start: int
    text: str


class Structure:
    """The pages and headings of a text. A text without blocks is one page without a number."""

    def __init__(self, text: str, blocks: Sequence[Block]) -> None:
        parts = [text[start:end] for start, end in pairwise([*(block.start for block in blocks), None])]
        inked = [(block, part) for block, part in zip(blocks, parts, strict=True) if part.strip()]
        self._text = text
        self._blocks = [block for block, _ in inked]
        self._starts = [block.start + len(part) - len(part.lstrip()) for block, part in inked]
        self._names = [heading_text(part) if block.kind == Kind.HEADING else "" for block, part in inked]
        self._above = list(_above(self._blocks))

    def pages(self) -> Iterator[Page]:
        """The pages in their order."""
        if not self._blocks:
            yield Page(0, self._text, None, ())
            return
        pages = [(number, list(blocks)) for number, blocks in groupby(self._blocks, attrgetter("page"))]
        starts = [0, *(blocks[0].start for _, blocks in pages[1:]), len(self._text)]
        for (number, blocks), (start, end) in zip(pages, pairwise(starts), strict=True):
            shifted = [block._replace(start=block.start - start) for block in blocks]
            yield Page(start, self._text[start:end], number, shifted)

    def headings(self, start: int, end: int) -> list[Heading]:
        """The headings of the passage from the character `start` to `end`, outermost first.

        They are the ones above its first words, including one that these words are part of; if the passage begins with
        several headings in a row, the last counts.
        """
        if not self._blocks:
            return []
        number = bisect_right(self._starts, start) - 1
        while self._is_heading(number) and self._is_heading(number + 1) and self._starts[number + 1] < end:
            number += 1
        if not self._is_heading(number):
            number = self._above[number] if number >= 0 else -1
        path = []
        while number >= 0:
            path.append(Heading(self._starts[number], self._names[number]))
            number = self._above[number]
        return [heading for heading in reversed(path) if heading.text]

    def _is_heading(self, number: int) -> bool:
        return 0 <= number < len(self._blocks) and self._blocks[number].kind == Kind.HEADING


def heading_text(source: str) -> str:
    """The words of a heading, without Markdown's marks around them.

    >>> heading_text("## Fares ##"), heading_text("C #"), heading_text("Fares and\\n  tickets\\n====\\n")
    ('Fares', 'C #', 'Fares and tickets')
    """
    line = _UNDERLINE.sub("", source.strip())
    hashes = _HASHES.fullmatch(line)
    return " ".join(((hashes[1] or "") if hashes else line).split())[:MAX_HEADING_CHARS]


def _above(blocks: Sequence[Block]) -> Iterator[int]:
    """For each block the number of the innermost heading above it, of a lower level than its own; -1 for none."""
    path: list[int] = []
    for number, block in enumerate(blocks):
        if block.level or block.kind == Kind.HEADING:
            while path and blocks[path[-1]].level >= block.level:
                path.pop()
        yield path[-1] if path else -1
        if block.kind == Kind.HEADING:
            path.append(number)
