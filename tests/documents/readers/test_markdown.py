import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.readers.document import DEFAULT_LIMITS, Block, Document, Limits
from ragjob.documents.readers.markdown import SMALL_BYTES, Markdown

MATTER = b"---\ntitle: Night trams\n---\n"


def read(text: str) -> Document:
    return Markdown().read(text.encode())


def blocks(text: str) -> list[tuple[str, int, str]]:
    """The kind, level and text of each block that isn't blank."""
    read_blocks = read(text).blocks
    ends = pairwise([*(block.start for block in read_blocks), None])
    parts = [(block.kind.value, block.level, text[slice(*span)]) for block, span in zip(read_blocks, ends, strict=True)]
    return [part for part in parts if part[2].strip()]


LINES = st.sampled_from(["# One", "## Two #", "text", "===", "---", "```", "    code", "| a | b |", "|-|-|", "- x", ""])


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_text_stays_as_it_stands_and_its_blocks_begin_lines_in_order(text: str) -> None:
    document = Markdown().read(b"\n" + text.encode())
    starts = [block.start for block in document.blocks]
    assert document.text == "\n" + text
    assert starts == sorted(set(starts))
    assert starts[:1] in ([], [0])
    assert {document.text[start - 1] for start in starts[1:]} <= {"\n"}


@pytest.mark.parametrize(
    ("text", "expected_blocks"),
    [
        ("# One\nx\n## Two ##\n", [("heading", 1, "# One\n"), ("prose", 0, "x\n"), ("heading", 2, "## Two ##\n")]),
        ("One\n===\r\ntext", [("heading", 1, "One\n===\r\n"), ("prose", 0, "text")]),
        ("x\n```sh\n# install\n\nmake\n```\n", [("prose", 0, "x\n"), ("code", 0, "```sh\n# install\n\nmake\n```\n")]),
        ("~~~\n# never closed", [("code", 0, "~~~\n# never closed")]),
        ("- item\n\n  ```\n  # a\n  ```\n", [("prose", 0, "- item\n\n"), ("code", 0, "  ```\n  # a\n  ```\n")]),
        ("text\n\n    # indented\n", [("prose", 0, "text\n\n"), ("code", 0, "    # indented\n")]),
        ("| a | b |\n|-|-|\n| 1 | 2 |\n\nend", [("table", 0, "| a | b |\n|-|-|\n| 1 | 2 |\n"), ("prose", 0, "\nend")]),
        ("<!--\n# hidden\n-->\n\n# One", [("prose", 0, "<!--\n# hidden\n-->\n\n"), ("heading", 1, "# One")]),
        ("> # quoted\n\n- # item\n\n#hash\n", []),
    ],
)
def test_headings_tables_and_code_are_blocks(text: str, expected_blocks: list[tuple[str, int, str]]) -> None:
    assert blocks(text) == expected_blocks


def test_front_matter_is_title_and_metadata_and_not_text() -> None:
    document = read(
        "---\ntitle: Night trams\nauthor: Ann\ndate: 2024-05-01\nlines: 4\ndraft: false\ntags: [trams, night]\n"
        "nested: {a: 1}\nrows: [[1]]\nnone: null\nshare: .nan\nisbn: 97812345678901234567890\n7: x\n---\n\n# Trams\n"
    )
    assert (document.title, document.text) == ("Night trams", "\n# Trams\n")
    assert document.metadata == {
        "author": "Ann",
        "date": "2024-05-01",
        "lines": 4,
        "draft": False,
        "tags": ["trams", "night"],
        "isbn": "97812345678901234567890",
    }
    assert document.blocks == [Block(0), Block(1, document.blocks[1].kind, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "---\ntitle: [\n---\ntext",
        "---\njust text\n---\ntext",
        "---\ntitle: never closed\n",
        "---\na: &a [x]\nb: [*a, *a]\n---\n",
        "---\nn: " + "9" * 5000 + "\n---\n",
        "---\na: " + "[" * 2000 + "\n---\n",
        "---\na: 2024-13-45\n---\n",
        "\n---\ntitle: not at the top\n---\n",
        "---\ntitle: " + "x" * 70_000 + "\n---\n",
    ],
    ids=["torn", "no mapping", "open", "aliases", "digits", "deep", "no date", "late", "long"],
)
def test_broken_front_matter_is_left_in_the_text(text: str) -> None:
    document = read(text)
    assert (document.text, document.metadata, document.title, document.error) == (text, {}, None, None)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n# The **depot** #\ntext\n## More\n", "The **depot**"),
        ("The depot\n=========\n", "The depot"),
        ("text\n\n# Depot\n", None),
        ("# Depot\n\n# Lines\n", None),
        ("## Depot\n", None),
        ("#\n\ntext", None),
    ],
)
def test_the_only_heading_of_level_1_is_the_title_if_the_text_begins_with_it(text: str, title: str | None) -> None:
    assert read(text).title == title


def test_bytes_that_arent_text_are_an_error_as_in_other_text() -> None:
    assert read("").text == ""
    assert Markdown().read(b"# caf\xe9").error == "file isn't UTF-8: byte 5 is wrong; save it as UTF-8"
    assert Markdown().read(MATTER.decode().encode("utf-16")).title == "Night trams"


def test_a_large_file_is_read_alike_in_a_process_of_its_own() -> None:
    content = b"# Trams\n\n- one\n\n```\n# two\n```\n\n" * 30 + b"words " * (SMALL_BYTES // 6)
    assert len(content) > SMALL_BYTES
    assert Markdown().read(content) == Markdown().parse(content, DEFAULT_LIMITS)
    assert Markdown().read(gzip.compress(content)).blocks == Markdown().parse(content, DEFAULT_LIMITS).blocks


def test_a_file_with_too_many_characters_is_an_error() -> None:
    error = "document has more than 5 characters; split it or leave it out, or raise corpus.max_chars"
    assert Markdown().read_within(b"# Trams", Limits(1, 5)) == Document(None, error)
