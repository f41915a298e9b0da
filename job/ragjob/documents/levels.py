"""Where a text is best cut: at the words that begin its larger units."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from ragjob.documents.readers.document import Kind

Words = Sequence[int]  # their numbers, in order


class Levels(NamedTuple):
    """The first words of units, those of the largest first.

    Each level begins with 0, includes the level before, and ends with the number of words. `shared` are the levels,
    from sentences down, at which a chunk that shares text with the one before may begin, and `sections` are where
    sections begin: text before that is never shared.
    """

    all: Sequence[Words]
    shared: Sequence[Words]
    sections: Words


def levels_of_prose(words: list[str], sentences: list[list[str]]) -> Levels:
    """Those of paragraphs, of lines that begin with a sentence, of sentences, of lines, and all words."""
    lines = [number for number, word in enumerate(words) if "\n" in word]
    paragraphs = {number for number in lines if words[number].count("\n") > 1}
    ends = {0, len(words)}
    starts = {*accumulate(map(len, sentences)), *paragraphs, *ends}
    nested = (paragraphs | ends, starts.intersection(lines) | ends, starts, starts.union(lines))
    levels = [*map(sorted, nested), range(len(words) + 1)]
    return Levels(levels, levels[2:], (0,))


def levels_of_blocks(words: list[str], sentences: list[list[str]], blocks: Iterable[tuple[int, Kind]]) -> Levels:
    """Those of sections, then as for prose. `blocks` are the first words and kinds of the text's blocks.

    A row of a table is a sentence; the sentences within are among the lines. Code is one sentence. Headings belong to
    what follows them, and are separated from it only on a level of their own, below that of sentences.
    """
    firsts = {first: kind for first, kind in blocks if first < len(words)}
    insides = [range(first + 1, after) for first, after in pairwise([*firsts, len(words)])]
    inner = {kind: set[int]() for kind in Kind}
    for kind, inside in zip(firsts.values(), insides, strict=True):
        inner[kind].update(inside)
    below = {first for (_, kind), (first, _) in pairwise(firsts.items()) if kind == Kind.HEADING}
    sections = {first for first, kind in firsts.items() if kind == Kind.HEADING} - below
    whole, table = inner[Kind.CODE] | inner[Kind.HEADING], inner[Kind.TABLE]

    lines = {number for number, word in enumerate(words) if "\n" in word}
    paragraphs = {number for number in lines if words[number].count("\n") > 1}
    sentence_starts = paragraphs.union(accumulate(map(len, sentences)))
    ends = {0, len(words)}
    units = ((paragraphs - whole - table) | firsts.keys()) - below | ends
    starts = ((sentence_starts - whole - table) | (table & lines) | units) - below | ends
    parts = starts | below
    nested = (sections | ends, units, starts & lines | units, starts, parts, parts | lines | (sentence_starts - whole))
    levels = [*map(sorted, nested), range(len(words) + 1)]
    return Levels(levels, levels[3:], levels[0])
