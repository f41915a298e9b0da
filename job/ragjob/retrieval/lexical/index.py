"""A segment's lexical index, mapped into memory."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles
from ragjob.ledger.passages import Numbers
from ragjob.retrieval.lexical.bm25 import BM25
from ragjob.retrieval.lexical.build import K1, B, build_apart
from ragjob.retrieval.lexical.tokens import Tokenizer

FORMAT = 1  # raised when the index of equal passages would be another

Scores = npt.NDArray[np.float32]


class LexicalIndex:
    """BM25 scores of a segment's rows for questions in the index's language. Any number of threads may ask."""

    def __init__(self, file: Path, language: str, rows: int) -> None:
        lists = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
        columns = {name: lists[name].values for name in lists.schema.names}
        postings = {"data": "scores", "indices": "rows", "indptr": "starts"}  # as the library calls them, and we
        self._bm25 = BM25(k1=K1, b=B, method="lucene")
        self._bm25.scores = {name: columns[ours].to_numpy() for name, ours in postings.items()} | {"num_docs": rows}
        self._bm25.nonoccurrence_array = None
        self._bm25.vocab_dict = {term: number for number, term in enumerate(columns["terms"].to_pylist())}
        self._tokenizer = Tokenizer(language)

    def scores(self, question: str) -> Scores:
        """The score of each row, float32 [rows]; 0 where no term of the question is."""
        terms = self._bm25.get_tokens_ids(self._tokenizer.terms(question))
        if not terms:  # which the library doesn't take, for an index without any
            return np.zeros(self._bm25.scores["num_docs"], np.float32)
        scores: Scores = self._bm25.get_scores_from_ids(terms)
        return scores


def best(scores: Scores, count: int, among: Numbers | None = None) -> Numbers:
    """The rows of the `count` highest scores above 0, in the order of their numbers; of equal ones the first.

    With `among`, ascending numbers of rows, only those.
    """
    if among is not None:
        return np.asarray(among[best(scores[among], count)], np.int64)
    rows = np.flatnonzero(scores > 0)  # of numbers it takes seven times as long
    if len(rows) <= count:
        return rows
    positive = scores[rows]
    least = np.partition(positive, -count)[-count]
    equal = rows[positive == least]
    above = rows[positive > least]
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


def open_index(files: SegmentFiles, language: str, rows: int) -> LexicalIndex:
    """The index of a segment of `rows` rows, built if it isn't there. Raises as `SegmentFiles.added` does."""
    return LexicalIndex(_file(files, language)[0], language, rows)


def prepare(files: SegmentFiles, language: str) -> bool:
    """Build that index unless it is there. Returns whether it had to be built. Raises as `SegmentFiles.added` does."""
    return _file(files, language)[1]


def _file(files: SegmentFiles, language: str) -> tuple[Path, bool]:
    """Where the index is on this node, and whether it had to be built."""
    stem = f"lexical-{schema.digest(FORMAT, K1, B, language, files.files.passages, files.files.rows)}"
    built = []

    def build(target: Path) -> None:
        build_apart(files.paths(), language, target)
        built.append(target)

    return files.added(stem, build), bool(built)
