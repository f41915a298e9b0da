"""Chunks of texts with pages, headings, tables and code."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ragjob.documents import chunking
from ragjob.documents.chunking import Splitter, WordCounter
from ragjob.documents.readers.document import Block, Kind
from ragjob.documents.structure import Heading, Structure
from ragjob.models.tokenizer import count_tokens

FEW = settings(max_examples=60)
SIZES = st.tuples(st.integers(8, 40), st.integers(0, 7))


@pytest.fixture(scope="session")
def counter(tokenizer: Tokenizer) -> WordCounter:
    return WordCounter(tokenizer)


def assemble(parts: Sequence[tuple[Kind, int, str]]) -> tuple[str, list[Block]]:
    """A text of these parts, and its blocks."""
    text, blocks = "", []
    for kind, level, part in parts:
        blocks.append(Block(len(text), kind, level))
        text += part
    return text, blocks


WORDS = st.integers(1, 25).map("rolls on ".__mul__)
SENTENCES = st.builds("Tram {}here. ".format, WORDS)
ROWS = SENTENCES.map("| {} | b. C |\n".format)
PARTS = st.one_of(
    st.tuples(st.just(Kind.HEADING), st.integers(1, 3), WORDS.map("# Line {}\n\n".format)),
    st.tuples(
        st.just(Kind.PROSE), st.just(0), st.lists(SENTENCES, min_size=1, max_size=5).map("".join).map("{}\n\n".format)
    ),
    st.tuples(st.just(Kind.TABLE), st.just(0), st.lists(ROWS, min_size=1, max_size=6).map("".join)),
    st.tuples(st.just(Kind.CODE), st.just(0), st.lists(WORDS, max_size=4).map("\n\n".join).map("```\n{}\n".format)),
)
DOCUMENTS = st.lists(PARTS, min_size=1, max_size=10).map(assemble)
ODD = st.text(st.sampled_from("aB1é.。 \n\r\v\x85\u00a0雨🙂#|"), max_size=40)
ODD_DOCUMENTS = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 3), ODD), min_size=1, max_size=12
).map(assemble)  # fmt: skip


def chunks(counter: WordCounter, document: tuple[str, list[Block]], size: int, overlap: int = 0) -> list[str]:
    return [document[0][start:end] for start, end in Splitter(counter, size, overlap).spans(*document)]


@FEW
@given(st.one_of(DOCUMENTS, ODD_DOCUMENTS), SIZES)
def test_chunks_of_blocks_hold_all_text_in_order_within_their_size(
    counter: WordCounter, tokenizer: Tokenizer, document: tuple[str, list[Block]], sizes: tuple[int, int]
) -> None:
    without_overlap = chunks(counter, document, sizes[0])
    assert "".join("".join(without_overlap).split()) == "".join(document[0].split())
    with_overlap = chunks(counter, document, *sizes)
    assert [chunk.strip() for chunk in with_overlap] == with_overlap
    assert max(count_tokens(tokenizer, with_overlap), default=0) <= sizes[0]
    assert max(map(len, with_overlap), default=0) <= 6 * sizes[0]


@FEW
@given(DOCUMENTS, SIZES)
def test_a_row_of_a_table_and_code_that_fit_are_whole_in_a_chunk(
    counter: WordCounter, tokenizer: Tokenizer, document: tuple[str, list[Block]], sizes: tuple[int, int]
) -> None:
    text, blocks = document
    spans = pairwise([*(block.start for block in blocks), None])
    stretches = [(block.kind, text[slice(*span)].strip()) for block, span in zip(blocks, spans, strict=True)]
    units = [part for kind, part in stretches if kind == Kind.CODE]
    units += [row for kind, part in stretches if kind == Kind.TABLE for row in part.split("\n")]
    counts = count_tokens(tokenizer, units) if units else []
    fitting = [
        unit for unit, count in zip(units, counts, strict=True) if count <= sizes[0] and len(unit) <= 6 * sizes[0]
    ]
    together = "\v".join(chunks(counter, document, *sizes))
    assert [unit for unit in fitting if unit not in together] == []


@FEW
@given(DOCUMENTS, SIZES)
def test_a_section_is_whole_or_begins_a_chunk_and_shares_nothing_with_the_one_before(
    counter: WordCounter, document: tuple[str, list[Block]], sizes: tuple[int, int]
) -> None:
    text, blocks = document
    spans = list(Splitter(counter, *sizes).spans(text, blocks))
    pairs = pairwise([Block(0), *blocks])
    sections = [block.start for before, block in pairs if block.kind == Kind.HEADING != before.kind]
    whole = [
        any(start <= first and len(text[:last].rstrip()) <= end for start, end in spans)
        for first, last in pairwise([*sections, len(text)])
    ]
    begins = [any(start == first for start, _ in spans) for first in sections]
    assert [first for first, *good in zip(sections, whole, begins, strict=True) if not any(good)] == []
    shared = [range(start + 1, end) for (_, end), (start, _) in pairwise(spans)]
    assert [first for first in sections if any(first in stretch for stretch in shared)] == []


@pytest.mark.parametrize("chars", [2_000, 5_000])
def test_a_document_of_several_windows_is_cut_as_one_is(
    counter: WordCounter, monkeypatch: pytest.MonkeyPatch, chars: int
) -> None:
    prose = "".join(f"Tram {number} rolls on until it is here. " for number in range(11)) + "\n\n"
    table = "".join(f"| {number} | The green one. It is old. |\n" for number in range(9)) + "\n"
    code = "```\n" + "make tram\n\n" * 6 + "```\n\n"
    parts = [(Kind.HEADING, 1, "# Trams\n\n"), (Kind.PROSE, 0, prose), (Kind.TABLE, 0, table), (Kind.CODE, 0, code)]
    document = assemble(parts * 12)
    whole = chunks(counter, document, 60)
    monkeypatch.setattr(chunking, "WINDOW_CHARS", chars)
    assert chunks(counter, document, 60) == whole


def test_short_sections_share_a_chunk_and_a_longer_one_begins_another(counter: WordCounter) -> None:
    long = "The green tram rolls on. " * 5
    document = assemble(
        [
            (Kind.HEADING, 1, "# Fares\n"),
            (Kind.PROSE, 0, "Two pence.\n"),
            (Kind.HEADING, 2, "## Children\n"),
            (Kind.PROSE, 0, "Free.\n"),
            (Kind.HEADING, 1, "# Lines\n"),
            (Kind.HEADING, 2, "## Green\n"),
            (Kind.PROSE, 0, long),
        ]
    )
    assert chunks(counter, document, 24, 6) == [
        "# Fares\nTwo pence.\n## Children\nFree.",
        "# Lines\n## Green\n" + " ".join(["The green tram rolls on."] * 3),
        " ".join(["The green tram rolls on."] * 3),
    ]


def test_a_heading_stays_with_what_it_opens_where_both_fit(counter: WordCounter) -> None:
    sentence = "The tram rolls on and on until it is here. "
    document = assemble([(Kind.HEADING, 1, "# The green line\n\n"), (Kind.PROSE, 0, sentence * 4)])
    assert chunks(counter, document, 20)[0] == "# The green line\n\n" + sentence.strip()
    assert chunks(counter, document, 12)[:2] == ["# The green line", sentence.strip()]


def test_code_is_cut_at_lines_where_it_is_longer_than_a_chunk(counter: WordCounter) -> None:
    document = assemble([(Kind.CODE, 0, "a. b = 1\n\n" * 8)])
    assert set("\n".join(chunks(counter, document, 13)).splitlines()) == {"a. b = 1", ""}


# Pages and headings

GUIDE, BLOCKS = assemble(
    [
        (Kind.HEADING, 1, "# Guide\n\n"),
        (Kind.HEADING, 3, "### Fares\n"),
        (Kind.PROSE, 0, "Two pence.\n"),
        (Kind.HEADING, 2, "Night lines\n-----\n"),
        (Kind.PROSE, 0, "Four.\n"),
        (Kind.HEADING, 1, "#\n"),
        (Kind.PROSE, 0, "End."),
    ]
)


def names(begin: str, end: str) -> list[str]:
    headings = Structure(GUIDE, BLOCKS).headings(GUIDE.index(begin), GUIDE.index(end) + len(end))
    return [heading.text for heading in headings]


@pytest.mark.parametrize(
    ("begin", "end", "headings"),
    [
        ("Two", "pence.", ["Guide", "Fares"]),
        ("# Guide", "pence.", ["Guide", "Fares"]),
        ("# Guide", "Guide", ["Guide"]),
        ("pence", "Four.", ["Guide", "Fares"]),
        ("Night", "Four.", ["Guide", "Night lines"]),
        ("Four", "End.", ["Guide", "Night lines"]),
        ("End", "End.", []),
    ],
)
def test_the_headings_of_a_passage_are_those_above_its_first_words(begin: str, end: str, headings: list[str]) -> None:
    assert names(begin, end) == headings


def test_a_block_may_end_the_sections_before_it() -> None:
    text, blocks = assemble([(Kind.HEADING, 1, "One\n"), (Kind.PROSE, 1, "two\n"), (Kind.TABLE, 0, "three")])
    structure = Structure(text, blocks)
    assert [structure.headings(start, start + 1) for start in (0, 4, 8)] == [[Heading(0, "One")], [], []]


def test_a_long_heading_is_cut() -> None:
    text = "Trams " * 1000
    assert Structure(text, [Block(0, Kind.HEADING, 1)]).headings(0, 9) == [Heading(0, text[:200])]


@given(st.lists(st.tuples(st.sampled_from([None, 1, 2]), ODD), max_size=8))
def test_pages_hold_all_text_in_order_and_their_own_blocks(parts: list[tuple[int | None, str]]) -> None:
    text, blocks = assemble([(Kind.PROSE, 0, part) for _, part in parts])
    paged = [block._replace(page=page) for block, (page, _) in zip(blocks, parts, strict=True)]
    pages = list(Structure(text, paged).pages())
    assert "".join(page.text for page in pages) == text
    assert [page.start for page in pages] == [sum(map(len, [p.text for p in pages[:n]])) for n in range(len(pages))]
    assert {block.page for page in pages for block in page.blocks if block.page != page.number} == set()


def test_blank_pages_are_none() -> None:
    text = "one \f \f two"
    pages = list(Structure(text, [Block(0, page=1), Block(4, page=2), Block(7, page=3)]).pages())
    assert [(page.text.strip(), page.number) for page in pages] == [("one", 1), ("two", 3)]
    assert re.sub(r"\s", "", "".join(page.text for page in pages)) == "onetwo"
