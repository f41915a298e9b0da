import re
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragjob.documents.settings import Chunk
from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.models.source import resolve
from ragjob.stages import chunk
from ragjob.stages.chunk import ChunkStage

LINES = Chunk(strategy="line")


@pytest.fixture(scope="session")
def by_line() -> ChunkStage:
    return ChunkStage(LINES, None, None)


def documents(*texts: str | None, error: str | None = None) -> pa.Table:
    rows = [
        {"document_id": f"document-{number}", "uri": f"uri-{number}", "text": text, "error": error}
        for number, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema.READ)


@pytest.mark.parametrize("strategy", ["line", "tokens"])
def test_the_words_that_the_model_doesnt_know_are_told_with_the_first_chunk(
    embedding_model: Source, strategy: str
) -> None:
    text = "ที่สถานีทุกสิบนาทีและออกเดินทาง\n\n" * 40
    chunks = chunk.make(Chunk(strategy=strategy), Embed(), embedding_model)(
        documents("The depot holds forty cars.", text)
    )
    assert chunks["unknown_share"].to_pylist() == [0, 1] + [0] * (chunks.num_rows - 2)


def test_lines_are_cut_for_a_model_without_a_tokenizer_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    stage = chunk.make(LINES, Embed(), resolve(str(tmp_path), None, "embed.model", ""))
    assert texts_of(stage, "a line long enough") == ["a line long enough"]


@pytest.mark.parametrize("strategy", ["line", "tokens"])
def test_short_passages_are_counted_with_the_first_chunk(embedding_model: Source, strategy: str) -> None:
    stage = chunk.make(Chunk(strategy=strategy, size=8, overlap=0), Embed(), embedding_model)
    chunks = stage(
        documents("Page 1\n\nThe depot holds forty green cars.\n\n\n\nPage 2\n\nThe green trams go every ten minutes.")
    )
    assert chunks["text"].to_pylist() == ["The depot holds forty green cars.", "The green trams go every ten minutes."]
    assert chunks["short_count"].to_pylist() == [2, 0]


def test_short_passages_are_counted_where_there_is_no_other(by_line: ChunkStage) -> None:
    assert by_line(documents("one\ntwo\n\n", "", "a line long enough"))["short_count"].to_pylist() == [2, 0, 0]


def test_a_full_width_character_counts_as_two(by_line: ChunkStage) -> None:
    assert texts_of(by_line, "車庫には電車\n車庫に電車\n전차는차고에\nｗｉｄｅ！！\nnarrow line\nnarrow one") == [
        "車庫には電車",
        "전차는차고에",
        "ｗｉｄｅ！！",
        "narrow line",
    ]


def texts_of(stage: ChunkStage, text: str) -> list[str | None]:
    return list(stage(documents(text))["text"].to_pylist())


def test_each_line_longer_than_min_chars_is_a_chunk_without_its_margins(by_line: ChunkStage) -> None:
    text = "  eleven chars\t\r\nten chars.\n\n \u00a0line eleven \n"
    assert texts_of(by_line, text) == ["eleven chars", "line eleven"]


@given(st.text(st.sampled_from("ab \t\n\r\u2028"), max_size=60), st.integers(0, 3))
def test_lines_end_at_line_feeds_only(text: str, min_chars: int) -> None:
    chunks = ChunkStage(Chunk(strategy="line", min_chars=min_chars), None, None)(documents(text))
    kept = [line.strip() for line in text.split("\n") if len(line.strip()) > min_chars]
    assert chunks["text"].to_pylist() == (kept or [""])


def test_chunks_are_numbered_and_named_by_document(by_line: ChunkStage) -> None:
    chunks = by_line(documents("the same line\nthe same line", "the same line"))
    assert chunks.schema == schema.CHUNKS
    assert chunks["document_id"].to_pylist() == ["document-0", "document-0", "document-1"]
    assert chunks["uri"].to_pylist() == ["uri-0", "uri-0", "uri-1"]
    assert chunks["chunk_index"].to_pylist() == [0, 1, 0]
    assert len(set(chunks["chunk_id"].to_pylist())) == 3


def test_a_line_that_is_too_long_is_an_error_while_its_neighbours_stay(by_line: ChunkStage) -> None:
    chunks = by_line(documents("line before it\n" + "x" * 5_000_000 + "\nline behind it"))
    assert chunks["text"].to_pylist() == ["line before it", None, "line behind it"]
    error = "passage has 5,000,000 characters, more than 100,000; split its line, or lower chunk.size"
    assert chunks["error"].to_pylist() == [None, error, None]


@pytest.mark.parametrize("strategy", ["line", "tokens"])
@pytest.mark.parametrize("text", ["", " \n\t\n", "short\nlines"])
def test_a_document_without_a_passage_is_one_row_that_says_so(
    embedding_model: Source, strategy: str, text: str
) -> None:
    chunks = chunk.make(Chunk(strategy=strategy, min_chars=12), Embed(), embedding_model)(
        documents(text, "a line long enough")
    )
    assert chunks["document_id"].to_pylist() == ["document-0", "document-1"]
    error = "no passage of more than 12 characters; leave the document out, or lower chunk.min_chars"
    assert chunks["error"].to_pylist() == [error, None]
    assert chunks["text"].to_pylist() == ["", "a line long enough"]


def test_a_document_with_an_error_keeps_it(by_line: ChunkStage) -> None:
    chunks = by_line(documents("text that would do", error="file isn't UTF-8: byte 3 is wrong"))
    assert chunks.select(["text", "error"]).to_pylist() == [
        {"text": None, "error": "file isn't UTF-8: byte 3 is wrong"}
    ]


def test_a_document_that_holds_nothing_keeps_its_empty_text(by_line: ChunkStage) -> None:
    chunks = by_line(documents("", error="text is blank"))
    assert chunks.select(["text", "error"]).to_pylist() == [{"text": "", "error": "text is blank"}]


def test_a_document_that_cant_be_cut_is_an_error_while_its_neighbours_stay(by_line: ChunkStage) -> None:
    chunks = by_line(documents(None, "a line long enough"))
    assert chunks["text"].to_pylist() == [None, "a line long enough"]
    assert chunks["error"].to_pylist() == ["AttributeError: 'NoneType' object has no attribute 'split'", None]


def test_no_documents_are_no_chunks(by_line: ChunkStage) -> None:
    assert by_line(documents()) == schema.CHUNKS.empty_table()


def test_chunks_end_at_paragraphs_where_they_can(embedding_model: Source) -> None:
    paragraphs = ["The harbour line opened.", "Its first tram was green.", "It closed again in 1931."]
    assert (
        texts_of(chunk.make(Chunk(size=8, overlap=0), Embed(), embedding_model), "\n\n".join(paragraphs)) == paragraphs
    )


def test_the_same_document_gives_the_same_chunks(embedding_model: Source) -> None:
    stages = [chunk.make(Chunk(size=16, overlap=4), Embed(), embedding_model) for _ in range(2)]
    first, second = [stage(documents(" ".join(f"word{number}." for number in range(80)))) for stage in stages]
    assert first == second


# Documents with blocks

KINDS = [("heading", 1), ("heading", 2), ("heading", 3), ("prose", 0), ("table", 0), ("code", 0)]
BLOCKS = st.tuples(st.sampled_from(KINDS), st.booleans(), st.lists(st.integers(1, 6), min_size=1, max_size=3))


def numbered(parts: list[tuple[tuple[str, int], bool, list[int]]]) -> dict[str, Any]:
    """A document each word of which begins with the number of its block; a heading has two."""
    text, page, blocks = "", 1, []
    for number, ((kind, level), turns, lines) in enumerate(parts):
        page += turns
        blocks.append({"start": len(text), "kind": kind, "level": level, "page": page})
        words = f"b{number}xrolls b{number}xon "
        text += words if level else "\n".join(words * count for count in lines)
        text += "\n\n"
    return {"document_id": "a", "uri": "a", "text": text, "blocks": blocks}


def above(blocks: list[dict[str, Any]], number: int) -> list[int]:
    """The headings above a block, one that it is included."""
    if number < 0:
        return []
    level = blocks[number]["level"]
    outer = (n for n in reversed(range(number)) if 0 < blocks[n]["level"] < (level or 9))
    return above(blocks, next(outer, -1)) + [number] * bool(level)


def first_body(blocks: list[dict[str, Any]], numbers: list[int]) -> int:
    """The block that a chunk of the blocks `numbers` begins with, or the last of the headings that it begins with."""
    run = takewhile(lambda n: n == numbers[0] or blocks[n]["level"] * blocks[n - 1]["level"], numbers)
    return max(run)


def mentioned(text: str | None) -> list[int]:
    """The numbers of the blocks that words are of, in order."""
    return [int(number) for number, _ in groupby(re.findall(r"\bb(\d+)x", text or ""))]


@settings(max_examples=60)
@given(
    st.lists(BLOCKS, min_size=1, max_size=10).map(numbered), st.integers(16, 60), st.sampled_from(["line", "tokens"])
)
def test_chunks_hold_all_text_and_each_its_page_and_the_headings_above_it(
    embedding_model: Source, document: dict[str, Any], size: int, strategy: str
) -> None:
    stage = chunk.make(Chunk(strategy=strategy, size=size, overlap=4, min_chars=0), Embed(), embedding_model)
    rows = stage(pa.Table.from_pylist([document], schema.READ)).to_pylist()
    blocks, numbers = document["blocks"], [mentioned(row["text"]) for row in rows]
    assert {word for row in rows for word in row["text"].split()} == set(document["text"].split())
    assert [{blocks[n]["page"] for n in inside} for inside in numbers] == [{row["page"]} for row in rows]
    paths = [above(blocks, first_body(blocks, inside)) for inside in numbers]
    assert [mentioned(row["heading"]) for row in rows] == paths
    outside = [[n for n in path if f"b{n}xrolls" not in row["text"]] for path, row in zip(paths, rows, strict=True)]
    assert [mentioned(row["context"]) for row in rows] == outside


def test_a_chunk_has_the_page_heading_and_context_of_its_place(embedding_model: Source) -> None:
    parts = [
        "# Fares\n\n",
        "A ticket costs two pence. ",
        "Children ride free of charge.",
        "## Night\nFour pence after ten.",
    ]
    starts = [sum(map(len, parts[:number])) for number in range(len(parts))]
    blocks = [
        {"start": starts[0], "kind": "heading", "level": 1, "page": 1},
        {"start": starts[1], "kind": "prose", "level": 0, "page": 1},
        {"start": starts[2], "kind": "prose", "level": 0, "page": 2},
        {"start": starts[3], "kind": "heading", "level": 2, "page": 2},
        {"start": starts[3] + 9, "kind": "prose", "level": 0, "page": 2},
    ]
    document = {"document_id": "a", "uri": "a", "text": "".join(parts), "title": "Trams", "blocks": blocks}
    stage = chunk.make(Chunk(size=12, overlap=0), Embed(), embedding_model)
    chunks = stage(pa.Table.from_pylist([document], schema.READ))
    assert chunks.select(["text", "page", "heading", "context"]).to_pylist() == [
        {"text": "# Fares\n\nA ticket costs two pence.", "page": 1, "heading": "Fares", "context": "Trams"},
        {"text": "Children ride free of charge.", "page": 2, "heading": "Fares", "context": "Trams > Fares"},
        {"text": "## Night\nFour pence after ten.", "page": 2, "heading": "Fares > Night", "context": "Trams > Fares"},
    ]
