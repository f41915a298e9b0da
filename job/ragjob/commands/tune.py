"""`tune`: find the retrieval settings that rank the labelled passages of an index best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ragjob import storage
from ragjob.commands.evaluate import read_answers
from ragjob.commands.sentences import sentence_files
from ragjob.commands.serving import embed_questions
from ragjob.commands.setup import set_up
from ragjob.config import JobSettings, require
from ragjob.errors import DataError, SettingsError
from ragjob.evaluation.labels import Labels, read_labels
from ragjob.evaluation.tuning import CANDIDATES, HYBRID, LEXICAL, Candidates, Setting, Tuning, tune
from ragjob.ledger import schema
from ragjob.ledger.passages import Numbers, Passages
from ragjob.planning.identity import CommittedIndex, find_index
from ragjob.retrieval.exact import nearest
from ragjob.retrieval.lexical.index import best, open_index
from ragjob.retrieval.ranking import Ranking

__all__ = ["HYBRID", "LEXICAL", "Setting", "Tune", "Tuning"]

MOST = max(CANDIDATES)  # of each side


@dataclass(frozen=True)
class Tune:
    """Find the best retrieval settings for the index of a run, by labels. No passage is embedded again.

    Attributes:
        index: the version of the index that the run was answered from.
        run: the run's folder, which gives the prompts and the version of the index.
        labels: file of the labels.
    """

    index: CommittedIndex
    run: str
    labels: str
    name: ClassVar[str] = "tune"

    @classmethod
    def of(cls, settings: JobSettings, run: str, labels: str) -> Self:
        """The command for a run. Raises when its index isn't there, or doesn't fit the settings."""
        require(settings, cls.name, "index.uri")
        if settings.retrieve.where:
            raise SettingsError("retrieve.where: `tune` searches all passages; set it to {} to tune without the filter")
        run = storage.absolute(run).rstrip("/")
        set_up(settings)
        versions = read_answers(run, "RUN", more=["index_version"])["index_version"]
        of_run = settings.index.model_copy(update={"version": versions[0].as_py()})
        index = find_index(settings.model_copy(update={"index": of_run}), cls.name)
        return cls(index, run, storage.absolute(labels))

    def execute(self) -> Tuning:
        """Rank all labelled prompts under all settings."""
        questions, relevant, column = self._questions()
        now: Any = self.index.settings.retrieve  # which has the settings of all modes
        current = Setting(now.mode, now.sentences, now.lexical_weight, now.candidates, now.fusion)
        return tune(self._candidates(questions, relevant, column), current)

    def _questions(self) -> tuple[list[str], list[Sequence[str]], str]:
        """The labelled prompts, the relevant ids of each, and the column of chunks that has such ids."""
        labels = read_labels(self.labels)
        answers = read_answers(self.run, "RUN").select([schema.PROMPT_ID, schema.PROMPT])
        labelled = [
            (row[schema.PROMPT], sorted(label.relevant))
            for row in answers.to_pylist()
            if (label := labels.by_prompt.get(row[labels.key])) and label.relevant and row[schema.PROMPT]
        ]
        if not labelled:
            raise DataError(
                f"--labels: {self.labels} names no relevant documents for any prompt of {self.run}; name a file "
                "that does"
            )
        questions, relevant = zip(*labelled, strict=True)
        return list(questions), list(relevant), _column(labels)

    def _candidates(self, questions: list[str], relevant: list[Sequence[str]], column: str) -> Candidates:
        files = self.index.files
        retrieve: Any = self.index.settings.retrieve
        passages = files.open()
        lexical = open_index(files, retrieve.language, len(passages))
        of_sentences = sentence_files(self.index)
        sentences = of_sentences.open(passages.first) if of_sentences else None
        ranking = Ranking(passages, retrieve, sentences)
        vectors = embed_questions(self.index, questions)
        everything = np.arange(len(passages)), list(range(len(questions)))
        near = nearest(passages, vectors, [everything], MOST)
        by_question = []
        for question, vector, dense in zip(questions, vectors, near, strict=True):
            scores = lexical.scores(question)
            words = best(scores, MOST)
            words = words[np.argsort(-scores[words], kind="stable")]
            rows = np.union1d(dense, words)
            similarities = ranking.similarities(rows, vector)
            better = ranking.with_sentences(rows, similarities, vector) if sentences else None
            by_question.append((rows, similarities, better, scores[rows], _ranks(dense, rows), _ranks(words, rows)))
        return _stacked(by_question, _relevant(passages, column, relevant), [len(ids) for ids in relevant])


def _column(labels: Labels) -> str:
    return schema.CHUNK_ID if labels.relevant == "chunk_ids" else schema.DOCUMENT_ID


def _ranks(ranked: Numbers, rows: Numbers) -> Numbers:
    """The rank, from 0, of each of `rows` (ascending) in a ranking of some; a rank beyond all for the others."""
    ranks = np.full(len(rows), np.iinfo(np.int32).max)
    ranks[np.searchsorted(rows, ranked)] = np.arange(len(ranked))
    return ranks


def _relevant(passages: Passages, column: str, relevant: list[Sequence[str]]) -> list[dict[int, int]]:
    """For each question the number of the relevant id that a row has, by row."""
    rows = passages.rows_of(column, {name for ids in relevant for name in ids})
    return [{int(row): number for number, name in enumerate(ids) for row in rows[name]} for ids in relevant]


def _stacked(
    by_question: list[tuple[Numbers, np.ndarray, np.ndarray | None, np.ndarray, Numbers, Numbers]],
    relevant: list[dict[int, int]],
    counts: list[int],
) -> Candidates:
    """Candidates of several questions as arrays of one length."""
    most = max(len(rows) for rows, *_ in by_question)
    beyond = np.iinfo(np.int32).max

    def stack(columns: Sequence[np.ndarray], empty: float, kind: type) -> np.ndarray:
        padded = [np.pad(column, (0, most - len(column)), constant_values=empty) for column in columns]
        return np.array(padded, kind)

    rows, similarities, better, bm25, dense, lexical = zip(*by_question, strict=True)
    numbers = [np.array([of.get(row, -1) for row in some.tolist()]) for some, of in zip(rows, relevant, strict=True)]
    return Candidates(
        similarities=stack(similarities, -1, np.float32),
        with_sentences=None if better[0] is None else stack(better, -1, np.float32),
        bm25=stack(bm25, 0, np.float32),
        dense_ranks=stack(dense, beyond, np.int32),
        lexical_ranks=stack(lexical, beyond, np.int32),
        relevant=stack(numbers, -1, np.int32),
        counts=np.array(counts),
    )
