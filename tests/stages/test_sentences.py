"""From chunks to their embedded sentences, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles, derive
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import SentenceFiles, SentenceLedger, StagedSentences
from ragjob.stages import sentences as stages
from ragjob.stages.sentences import EmbedSentences, ReadPart, WriteSentences
from ragjob.stages.write import WriteChunksAndSentences
from tests.fakes import POISON, embed_lengths
from tests.passages import make_chunks

TEXTS = [
    "One tram runs. Two trams run all night. Why?",
    "Only one sentence here.",
    f"Two {POISON} here. It is bad.",
    "Three trams run. Three trams run. Three trams run.",
]
QUOTED = {
    TEXTS[0]: [("One tram runs.", 14), ("Two trams run all night.", 24)],
    TEXTS[1]: [],
    TEXTS[2]: [],
    TEXTS[3]: [("Three trams run.", 16)] * 3,
}


def embed(texts: list[str]) -> np.ndarray:
    """As `embed_lengths` does, but a text is poison when it has it in it."""
    return embed_lengths([POISON if POISON in text else text for text in texts]) if texts else np.empty((0, 2), "f4")


def chunks() -> pa.Table:
    return make_chunks(TEXTS, np.ones((len(TEXTS), 2), np.float32))


def quoted(uri: str) -> dict[str, list[tuple[str, float]]]:
    """The sentences of each row of the segment, and the first number of their vectors."""
    segment = SegmentLedger(uri, "s1")
    files, _ = derive(segment, segment.settle(segment.survey()))
    passages, ledger = SegmentFiles(uri, "s1", files, uri).open(), SentenceLedger(uri, "s1", files)
    for part in ledger.missing():
        embedded = EmbedSentences(embed, 2)(ReadPart(segment)(pa.table([[part]], schema.PARTS)))
        assert WriteSentences(ledger.staged)(embedded)[schema.ERROR].null_count == embedded.num_rows
    sentences = SentenceFiles(uri, "s1", ledger.join(), uri).open(passages.first)
    question = np.eye(2, dtype="f4")[0]
    rows = {passages.passage(row).text: sentences.of(row, question) for row in range(len(passages))}
    return {text: [(text[at.start : at.end], at.similarity) for at in spans] for text, spans in rows.items()}


def write(uri: str, rows: pa.Table) -> pa.Table:
    """Put chunks as a part with its sentences."""
    stage = WriteChunksAndSentences(SegmentLedger(uri, "s1"), StagedSentences(uri, "s1"))
    return stage(EmbedSentences(embed, 2)(rows))


def test_sentences_of_a_part_are_embedded_later_where_there_are_several(tmp_path: Path) -> None:
    SegmentLedger(str(tmp_path), "s1").write(chunks())
    assert quoted(str(tmp_path)) == QUOTED


@pytest.mark.parametrize("at_once", [1, 3, 512])
def test_sentences_are_embedded_and_put_beside_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(stages, "ROWS_AT_ONCE", at_once)
    written = write(str(tmp_path), chunks())
    assert written[schema.ERROR].null_count == len(TEXTS)  # the chunk stays, whatever becomes of its sentences
    monkeypatch.setattr(stages, "EmbedSentences", None)
    assert quoted(str(tmp_path)) == QUOTED


def test_what_is_left_of_a_document_with_a_failed_chunk_gets_its_sentences_later(tmp_path: Path) -> None:
    rows = make_chunks(TEXTS, np.ones((len(TEXTS), 2), np.float32), document_id=["a", "a", "b", "b"])
    errors = pa.array([None, "it failed", None, None])
    write(str(tmp_path), rows.set_column(rows.schema.get_field_index(schema.ERROR), schema.ERROR, errors))
    assert quoted(str(tmp_path)) == {text: QUOTED[text] for text in (TEXTS[0], *TEXTS[2:])}


def test_chunks_whose_sentences_cant_be_embedded_are_counted(tmp_path: Path) -> None:
    write(str(tmp_path), chunks())
    [staged] = StagedSentences(str(tmp_path), "s1").by_part().values()
    assert (staged.sentences, staged.failed) == (5, 1)
