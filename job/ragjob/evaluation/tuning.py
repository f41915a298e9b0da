"""Which settings of retrieval rank the labelled passages best: a search over candidates that were scored once.

What a set of settings promises is measured on questions that had no part in choosing it: the questions are dealt into
folds, and those of each fold are ranked by what is best for the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from ragjob.evaluation.ranking import Hits, Values, ndcg, recall, reciprocal_rank
from ragjob.evaluation.resampling import interval
from ragjob.retrieval.dense import Dense
from ragjob.retrieval.hybrid import Hybrid
from ragjob.retrieval.hybrid.fusion import convex, reciprocal_ranks
from ragjob.retrieval.lexical import Lexical

DENSE, LEXICAL, HYBRID = Dense.name, Lexical.name, Hybrid.name

FOLDS = 5
CUTOFF = 10  # of the metric that decides, nDCG@10
RECALLS = (1, 3, 5, 10)
WEIGHTS = tuple(round(0.05 * step, 2) for step in range(1, 20))
CANDIDATES = (20, 50, 100)

Scores = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Setting:
    """Retrieval settings, by their names under `retrieve`. Settings of a side that the mode lacks don't count."""

    mode: str
    sentences: bool = False
    lexical_weight: float = 0.0
    candidates: int = max(CANDIDATES)
    fusion: str = "convex"


@dataclass(frozen=True)
class Candidates:
    """The best rows of either side for each question, as arrays [questions, rows]; places beyond the rows are empty.

    Attributes:
        similarities: cosines; -1 in an empty place.
        with_sentences: the better of these and the cosine of the row's best sentence; None where sentences aren't
            embedded.
        bm25: scores of the lexical side; 0 in an empty place.
        dense_ranks: ranks among the nearest rows, from 0, and a rank beyond all where a row isn't one of them.
        lexical_ranks: the same for the lexical side.
        relevant: the number, from 0, of the relevant item that the row is or belongs to; -1 for none.
        counts: the number of relevant items of each question, int64 [questions].
    """

    similarities: Scores
    with_sentences: Scores | None
    bm25: Scores
    dense_ranks: Ranks
    lexical_ranks: Ranks
    relevant: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        questions: number of those that were ranked.
        best: the settings to take.
        current: the settings as they are.
        metrics: means of the best settings' metrics, each question ranked by settings that were chosen without it.
        current_metrics: means of the current settings' metrics.
        gain: how much the former's nDCG@10 is above the latter's, on average, with its 95 % interval.
        chosen: for each fold, the best settings for the others: if they differ much, there are too few questions.
    """

    questions: int
    best: Setting
    current: Setting
    metrics: dict[str, float]
    current_metrics: dict[str, float]
    gain: tuple[float, float, float]
    chosen: list[Setting]


def tune(candidates: Candidates, current: Setting) -> Tuning:
    """Search all settings. The same candidates always give the same result."""
    settings = list(_settings(candidates))
    hits = {setting: _hits(candidates, setting) for setting in dict.fromkeys([*settings, current])}
    gains = {setting: ndcg(hits[setting], candidates.counts, CUTOFF) for setting in hits}
    folds = np.random.default_rng(0).permutation(len(candidates.counts)) % FOLDS
    held_out = np.empty_like(hits[current])
    chosen = []
    for fold in range(FOLDS):
        others = folds != fold
        best = max(settings, key=lambda setting: gains[setting][others].mean() if others.any() else 0)
        held_out[~others] = hits[best][~others]
        chosen.append(best)
    gain = ndcg(held_out, candidates.counts, CUTOFF) - gains[current]
    low, high = interval(gain) or (float(gain.mean()),) * 2
    return Tuning(
        questions=len(candidates.counts),
        best=max(settings, key=lambda setting: gains[setting].mean()),
        current=current,
        metrics=_means(held_out, candidates.counts),
        current_metrics=_means(hits[current], candidates.counts),
        gain=(float(gain.mean()), low, high),
        chosen=chosen,
    )


def _settings(candidates: Candidates) -> Iterator[Setting]:
    """All settings that are tried: the first of equally good ones is taken, so the simplest come first."""
    yield Setting(DENSE)
    yield Setting(LEXICAL)
    sides = (False, True) if candidates.with_sentences is not None else (False,)
    if candidates.with_sentences is not None:
        yield Setting(DENSE, sentences=True)
    for sentences, count, weight in product(sides, reversed(CANDIDATES), WEIGHTS):
        yield Setting(HYBRID, sentences, weight, count)


def _hits(candidates: Candidates, setting: Setting) -> Hits:
    """Whether there is a relevant item at each of the first ranks, [questions, CUTOFF]; an item counts once."""
    scores = _scores(candidates, setting)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
    relevant = np.take_along_axis(candidates.relevant, best, axis=1)
    relevant[~np.isfinite(np.take_along_axis(scores, best, axis=1))] = -1
    hits = relevant >= 0
    for rank in range(1, relevant.shape[1]):
        hits[:, rank] &= (relevant[:, :rank] != relevant[:, rank : rank + 1]).all(axis=1)
    return np.pad(hits, ((0, 0), (0, CUTOFF - hits.shape[1])))


def _scores(candidates: Candidates, setting: Setting) -> Scores:
    """What ranks the rows; -inf for one that isn't among the candidates."""
    near = candidates.similarities
    if setting.sentences and candidates.with_sentences is not None:
        near = candidates.with_sentences
    dense, lexical = (ranks < setting.candidates for ranks in (candidates.dense_ranks, candidates.lexical_ranks))
    if setting.mode == DENSE:
        return np.where(dense, near, -np.inf)
    if setting.mode == LEXICAL:
        return np.where(lexical & (candidates.bm25 > 0), candidates.bm25, -np.inf)
    among = dense | lexical
    sides = np.where(among, near, -1), np.where(among, candidates.bm25, 0)
    if setting.fusion == "convex":
        fused = convex(*sides, setting.lexical_weight)
    else:
        fused = np.array([reciprocal_ranks(*question) for question in zip(*sides, strict=True)])
    return np.where(among, fused, -np.inf)


def _means(hits: Hits, counts: npt.NDArray[np.int64]) -> dict[str, float]:
    metrics: dict[str, Values] = {f"recall@{k}": recall(hits, counts, k) for k in RECALLS}
    metrics |= {"mrr": reciprocal_rank(hits), f"ndcg@{CUTOFF}": ndcg(hits, counts, CUTOFF)}
    return {name: float(values.mean()) for name, values in metrics.items()}
