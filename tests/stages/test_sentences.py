"""From chunks to their embedded sentences, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles, derive
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import SentenceFiles, SentenceLedger
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
    segment, ledger = SegmentLedger(uri, "s1"), SentenceLedger(uri, "s1", 0)
    settled = segment.settle(segment.survey())
    passages = SegmentFiles(uri, "s1", derive(segment, settled)[0], uri).open()
    for part in ledger.missing():
        embedded = EmbedSentences(embed, 2)(ReadPart(segment)(pa.table([[part]], schema.PARTS)))
        assert WriteSentences(ledger)(embedded)[schema.ERROR].null_count == len(TEXTS)
    sentences = SentenceFiles(uri, "s1", ledger.join(), uri).open(passages.first)
    question = np.eye(2, dtype="f4")[0]
    rows = {passages.passage(row).text: sentences.of(row, question) for row in range(len(passages))}
    return {text: [(text[at.start : at.end], at.similarity) for at in spans] for text, spans in rows.items()}


def test_sentences_of_a_part_are_embedded_later_where_there_are_several(tmp_path: Path) -> None:
    SegmentLedger(str(tmp_path), "s1").write(chunks())
    assert quoted(str(tmp_path)) == QUOTED


@pytest.mark.parametrize("at_once", [1, 3, 512])
def test_sentences_are_embedded_and_put_beside_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(stages, "ROWS_AT_ONCE", at_once)
    ledger = SentenceLedger(str(tmp_path), "s1", 0)
    written = WriteChunksAndSentences(SegmentLedger(str(tmp_path), "s1"), ledger)(EmbedSentences(embed, 2)(chunks()))
    assert written[schema.ERROR].null_count == len(TEXTS)  # the chunk stays, whatever becomes of its sentences
    monkeypatch.setattr(stages, "EmbedSentences", None)
    assert quoted(str(tmp_path)) == QUOTED


def test_a_document_with_a_failed_chunk_leaves_the_sentences_of_the_others(tmp_path: Path) -> None:
    segment, ledger = SegmentLedger(str(tmp_path), "s1"), SentenceLedger(str(tmp_path), "s1", 0)
    failed = chunks().set_column(
        chunks().schema.get_field_index(schema.ERROR), schema.ERROR, pa.array(["it failed", None, None, None])
    )
    WriteChunksAndSentences(segment, ledger)(EmbedSentences(embed, 2)(failed))
    segment.settle(segment.survey())
    assert ledger.missing() == []
    assert ledger.join().sentences == 3


@pytest.mark.parametrize(("max_rate", "staged"), [(0.4, False), (0.5, True)])
def test_a_part_of_which_too_many_chunks_failed_is_left_for_a_rerun(
    tmp_path: Path, max_rate: float, staged: bool
) -> None:
    segment, ledger = SegmentLedger(str(tmp_path), "s1"), SentenceLedger(str(tmp_path), "s1", max_rate)
    several = make_chunks([TEXTS[2], TEXTS[2], TEXTS[0], TEXTS[0]], np.ones((4, 2), np.float32))
    WriteChunksAndSentences(segment, ledger)(EmbedSentences(embed, 2)(several))
    [part] = segment.settle(segment.survey()).parts
    assert ledger.missing() == ([] if staged else [part.name])
