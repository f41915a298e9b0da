"""How a run differs from another one, prompt by prompt."""

from typing import Literal

import numpy as np

from ragjob.errors import DataError
from ragjob.evaluation.ranking import Values
from ragjob.evaluation.resampling import p_value
from ragjob.evaluation.results import Change, Comparison, Difference
from ragjob.evaluation.scores import LOWER_IS_BETTER, METRICS, Scores

SIGNIFICANCE = 0.05  # of a single metric's p-value
MOST_CHANGES = 20


def compare(here: Scores, there: Scores, run: str) -> Comparison:
    """Compare a run's scores with those of the other one, whose folder is `run`; prompts are paired by their ids.

    Raises `DataError` when the runs have no prompt in common.
    """
    place = {name: row for row, name in enumerate(there.prompt_ids)}
    rows = [row for row, name in enumerate(here.prompt_ids) if name in place]
    if not rows:
        raise DataError(f"--against: {run} has none of this run's prompt_ids; compare runs of the same prompts")
    others = [place[here.prompt_ids[row]] for row in rows]
    shared = [name for name in METRICS if name in here.values and name in there.values]
    pairs = {name: (here.values[name][rows], there.values[name][others]) for name in shared}
    return Comparison(
        run=run,
        prompts=len(rows),
        only_here=len(here.prompt_ids) - len(rows),
        only_there=len(there.prompt_ids) - len(rows),
        metrics={name: _difference(name, *pair) for name, pair in pairs.items() if np.isfinite(sum(pair)).any()},
        changes=_changes(here, rows, pairs),
    )


def _difference(name: str, here: Values, there: Values) -> Difference:
    both = np.isfinite(here + there)
    here, there = here[both], there[both]
    gains = there - here if name in LOWER_IS_BETTER else here - there
    p = p_value(gains)
    verdict: Literal["better", "worse", "undecided"] = "undecided"
    if p < SIGNIFICANCE:
        verdict = "better" if gains.mean() > 0 else "worse"
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return Difference(
        mean=float(here.mean()),
        against=float(there.mean()),
        p_value=p,
        verdict=verdict,
        wins=wins,
        losses=losses,
        ties=len(gains) - wins - losses,
        n=len(gains),
    )


def _changes(here: Scores, rows: list[int], pairs: dict[str, tuple[Values, Values]]) -> list[Change]:
    """The prompts whose metrics differ most, added up over the metrics."""
    distances = {name: np.nan_to_num(np.abs(now - before)) for name, (now, before) in pairs.items()}
    totals = np.sum(list(distances.values()), axis=0)
    most = [pair for pair in np.argsort(-totals, kind="stable")[:MOST_CHANGES] if totals[pair]]
    return [
        Change(
            prompt_id=here.prompt_ids[rows[pair]],
            prompt=here.prompts[rows[pair]],
            metrics={
                name: (float(before[pair]), float(now[pair]))
                for name, (now, before) in pairs.items()
                if distances[name][pair]
            },
        )
        for pair in most
    ]
