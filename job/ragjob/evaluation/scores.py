"""The metrics of every prompt of a run."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ragjob.errors import DataError
from ragjob.evaluation import ranking, squad
from ragjob.evaluation.labels import CHUNK_IDS, DOCUMENT_IDS, Labels
from ragjob.evaluation.ranking import Values
from ragjob.ledger import schema

CUTOFFS = (1, 3, 5, 10)  # of recall
NDCG_CUTOFF = 10
CITATIONS = "citations"  # positions, from 1, of the passages that an answer names

RECALL = {k: f"recall@{k}" for k in CUTOFFS}
MRR, NDCG = "mrr", f"ndcg@{NDCG_CUTOFF}"
EXACT_MATCH, F1, CONTAINS = "exact_match", "f1", "contains_answer"
CITATION_PRECISION, CITATION_RECALL = "citation_precision", "citation_recall"
UNANSWERED = "unanswered"
METRICS = (
    *RECALL.values(),
    *(MRR, NDCG, EXACT_MATCH, F1, CONTAINS),
    *(CITATION_PRECISION, CITATION_RECALL, UNANSWERED),
)
LOWER_IS_BETTER = frozenset({UNANSWERED})

_RANKED = {DOCUMENT_IDS: schema.RETRIEVED_DOCUMENT_IDS, CHUNK_IDS: schema.RETRIEVED_IDS}
# What scores are computed from; a run may lack those that depend on its release.
COLUMNS = [schema.PROMPT_ID, schema.PROMPT, schema.ANSWER, *_RANKED.values(), CITATIONS]

_TEXT_METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    EXACT_MATCH: squad.exact_match,
    F1: squad.f1,
    CONTAINS: squad.contains,
}


@dataclass(frozen=True)
class Scores:
    """The metrics of every prompt of a run, in the run's order.

    Attributes:
        prompt_ids: the prompts' ids.
        prompts: the prompts; None for one that couldn't be read.
        labelled: whether there is a label for each prompt.
        unused_labels: number of labels whose prompt isn't in the run.
        values: by metric, a number from 0 to 1 for each prompt; NaN where the metric doesn't apply to it.
        passages: number of passages that a prompt has, at most.
    """

    prompt_ids: list[str]
    prompts: list[str | None]
    labelled: npt.NDArray[np.bool_]
    unused_labels: int
    values: dict[str, Values]
    passages: int


def score(run: str, answers: pa.Table, labels: Labels) -> Scores:
    """Compute the metrics of a run from its answers, a table with those of `COLUMNS` that the run has.

    Raises `DataError` naming `run` when labels name documents, and the run's passages don't.
    """
    names = answers[labels.key].to_pylist()
    by_row = [labels.by_prompt.get(name) for name in names]
    with_ids = {row: label for row, label in enumerate(by_row) if label and label.relevant}
    with_answers = {row: label for row, label in enumerate(by_row) if label and label.answers}
    passages = pc.max(pc.list_value_length(answers[schema.RETRIEVED_IDS])).as_py() or 0
    values: dict[str, Values] = {}
    if with_ids:
        _check_column(run, answers, labels)
        chosen, relevant = answers.take(list(with_ids)), [label.relevant for label in with_ids.values()]
        ranked = [ids or [] for ids in chosen[_RANKED[labels.relevant]].to_pylist()]
        computed = _retrieval(ranked, relevant, passages)
        if CITATIONS in chosen.column_names:
            computed |= _citations(chosen[CITATIONS].to_pylist(), ranked, relevant)
        values |= _spread(computed, list(with_ids), len(by_row))
    if with_answers:
        texts = answers[schema.ANSWER].take(list(with_answers)).to_pylist()
        computed = _texts(texts, [label.answers for label in with_answers.values()])
        values |= _spread(computed, list(with_answers), len(by_row))
    values[UNANSWERED] = np.array([not (text or "").strip() for text in answers[schema.ANSWER].to_pylist()], float)
    return Scores(
        prompt_ids=answers[schema.PROMPT_ID].to_pylist(),
        prompts=answers[schema.PROMPT].to_pylist(),
        labelled=np.array([label is not None for label in by_row], np.bool_),
        unused_labels=len(labels.by_prompt.keys() - set(names)),
        values=values,
        passages=passages,
    )


def _check_column(run: str, answers: pa.Table, labels: Labels) -> None:
    if _RANKED[labels.relevant] not in answers.column_names:
        raise DataError(
            f"{run}: the run has no column {_RANKED[labels.relevant]}, since an older release of ragjob made it; "
            f"answer the prompts again, or label {CHUNK_IDS} instead of {labels.relevant}"
        )


def _retrieval(ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]], passages: int) -> dict[str, Values]:
    """Recall is computed as far as the run's lists go: beyond that it would only repeat itself."""
    hits = ranking.find_hits(ranked, relevant)
    counts = np.array([len(ids) for ids in relevant])
    return {
        **{name: ranking.recall(hits, counts, k) for k, name in RECALL.items() if k <= max(passages, 1)},
        MRR: ranking.reciprocal_rank(hits),
        NDCG: ranking.ndcg(hits, counts, NDCG_CUTOFF),
    }


def _citations(
    cited: Sequence[Sequence[int] | None], ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]]
) -> dict[str, Values]:
    """An answer that cites nothing has a recall of 0, and no precision."""
    precision, recall = np.full(len(cited), np.nan), np.zeros(len(cited))
    for row, (positions, ids, wanted) in enumerate(zip(cited, ranked, relevant, strict=True)):
        if named := set(positions or []):
            right = [name for position, name in enumerate(ids, 1) if position in named and name in wanted]
            precision[row], recall[row] = len(right) / len(named), len(set(right)) / len(wanted)
    return {CITATION_PRECISION: precision, CITATION_RECALL: recall}


def _texts(answers: Sequence[str | None], accepted: Sequence[Sequence[str]]) -> dict[str, Values]:
    """A prompt without an answer is scored as one with a blank answer."""
    pairs = [
        (squad.normalize(answer or ""), squad.accepted_answers(texts))
        for answer, texts in zip(answers, accepted, strict=True)
    ]
    return {name: np.array([metric(*pair) for pair in pairs]) for name, metric in _TEXT_METRICS.items()}


def _spread(computed: dict[str, Values], rows: list[int], count: int) -> dict[str, Values]:
    """The same for all `count` prompts of the run: NaN outside `rows`."""
    spread = {name: np.full(count, np.nan) for name in computed}
    for name, values in computed.items():
        spread[name][rows] = values
    return spread
