"""From rows of a segment to their embedded sentences, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles, SegmentFiles, derive
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import SentenceFiles, SentenceLedger
from ragjob.stages.sentences import EmbedSentences, ReadRows, WriteSentences
from tests.fakes import POISON, embed_lengths
from tests.passages import make_chunks

TEXTS = [
    "One tram runs. Two trams run all night. Why?",
    "Only one sentence here.",
    f"Two {POISON} here. It is bad.",
]


def embed(texts: list[str]) -> np.ndarray:
    """As `embed_lengths` does, but a text is poison when it has it in it."""
    return embed_lengths([POISON if POISON in text else text for text in texts]) if texts else np.empty((0, 2), "f4")


def test_rows_of_several_sentences_have_them_embedded_and_quoted(tmp_path: Path) -> None:
    uri = str(tmp_path)
    segment = SegmentLedger(uri, "s1")
    segment.write(make_chunks(TEXTS, np.ones((3, 2), np.float32)))
    derived, rows = derive(segment, segment.settle(segment.survey()))
    files = SegmentFiles(uri, "s1", derived, uri)
    ledger = SentenceLedger(uri, "s1", derived, rows)

    [span] = ledger.missing()
    read = ReadRows(files)(pa.table([[span[0]], [span[1]]], schema.ROW_RANGES))
    embedded = EmbedSentences(embed, 2)(read)
    WriteSentences(ledger, 0)(embedded)  # one row may always fail
    sentences = SentenceFiles(uri, "s1", ledger.join(2), rows, uri).open()

    passages = files.open()
    numbers = {passages.passage(row).text: row for row in range(rows)}
    quoted = {
        text: [
            (text[found.start : found.end], found.similarity) for found in sentences.of(row, np.eye(2, dtype="f4")[0])
        ]
        for text, row in numbers.items()
    }
    assert quoted == {
        TEXTS[0]: [("One tram runs.", 14), ("Two trams run all night.", 24)],
        TEXTS[1]: [],
        TEXTS[2]: [],
    }
    errors = dict(zip(embedded[schema.TEXT].to_pylist(), embedded[schema.ERROR].to_pylist(), strict=True))
    assert errors == {TEXTS[0]: None, TEXTS[1]: None, TEXTS[2]: "RuntimeError: CUDA error: device-side assert"}


def test_a_range_of_which_too_many_rows_failed_is_left_for_a_rerun(tmp_path: Path) -> None:
    derived = DerivedFiles("passages-1.arrow", "vectors-1.npy", "rows-1.parquet")
    ledger = SentenceLedger(str(tmp_path), "s1", derived, 4)
    read = pa.table([range(4), [TEXTS[2], TEXTS[2], TEXTS[0], TEXTS[0]], [None] * 4], schema.ROWS)
    embedded = EmbedSentences(embed, 2)(read)

    WriteSentences(ledger, 0.4)(embedded)
    assert ledger.missing() == [(0, 4)]

    WriteSentences(ledger, 0.5)(embedded)
    assert ledger.missing() == []
