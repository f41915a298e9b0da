from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob import schema
from ragjob.documents.settings import Chunk
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
    assert chunks["error"].to_pylist() == [None, "passage has 5,000,000 characters, more than 100,000", None]


@pytest.mark.parametrize("strategy", ["line", "tokens"])
@pytest.mark.parametrize("text", ["", " \n\t\n", "short\nlines"])
def test_a_document_without_a_passage_is_one_row_that_says_so(
    embedding_model: Source, strategy: str, text: str
) -> None:
    chunks = chunk.make(Chunk(strategy=strategy, min_chars=12), Embed(), embedding_model)(
        documents(text, "a line long enough")
    )
    assert chunks["document_id"].to_pylist() == ["document-0", "document-1"]
    assert chunks["error"].to_pylist() == ["no passage of more than 12 characters", None]
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
