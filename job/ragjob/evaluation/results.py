"""What an evaluation tells: a figure for each metric, how sure it is, and how a run differs from another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ragjob.errors import EvaluationFailed
from ragjob.evaluation.ranking import Values
from ragjob.evaluation.resampling import interval
from ragjob.evaluation.scores import LOWER_IS_BETTER, METRICS


@dataclass(frozen=True)
class Figure:
    """A metric of a run.

    Attributes:
        mean: over the prompts that the metric applies to, from 0 to 1.
        low: lower end of the mean's 95 % interval; None where there is one prompt.
        high: its upper end.
        n: number of those prompts.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


Figures = dict[str, Figure]  # by metric


@dataclass(frozen=True)
class Difference:
    """A metric of two runs, over the prompts that have it in both.

    Attributes:
        mean: in this run.
        against: in the other run.
        p_value: two-sided, of a paired permutation test.
        verdict: whether this run is better or worse, where the p-value is below 0.05.
        wins: number of prompts for which this run is better.
        losses: number of prompts for which it is worse.
        ties: number of prompts that are equal.
        n: number of prompts.
    """

    mean: float
    against: float
    p_value: float
    verdict: Literal["better", "worse", "undecided"]
    wins: int
    losses: int
    ties: int
    n: int


@dataclass(frozen=True)
class Change:
    """A prompt whose metrics differ between the runs: for each, its value in the other run and in this one."""

    prompt_id: str
    prompt: str | None
    metrics: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """How a run differs from another one.

    Attributes:
        run: folder of the other run.
        prompts: number of prompts that both have.
        only_here: number of prompts that the other run lacks.
        only_there: number of prompts that this run lacks.
        metrics: the difference in each metric that both runs have.
        changes: the prompts that changed most.
    """

    run: str
    prompts: int
    only_here: int
    only_there: int
    metrics: dict[str, Difference]
    changes: list[Change]


@dataclass(frozen=True)
class Evaluation:
    """How good a run is.

    Attributes:
        run: its folder.
        labels: file of the labels.
        prompts: number of its prompts.
        labelled: number of its prompts that have a label.
        unused_labels: number of labels whose prompt isn't in the run.
        passages: number of passages that a prompt has, at most.
        metrics: the figures of all metrics that the labels and the run allow.
        by: column of the prompts by which `groups` are made, if any.
        groups: the figures of the prompts with each value of that column.
        against: the comparison with another run, if any.
        failed: where the run isn't good enough, one line each.
        format: number of the format in which this is written.
    """

    run: str
    labels: str
    prompts: int
    labelled: int
    unused_labels: int
    passages: int
    metrics: Figures
    by: str | None
    groups: dict[str, Figures]
    against: Comparison | None
    failed: list[str]
    format: int

    def require(self) -> None:
        """Raise `EvaluationFailed` if the run isn't good enough."""
        if self.failed:
            raise EvaluationFailed(f"{'; '.join(self.failed)}: see the prompts in {self.run}/_evaluation.parquet")


def figures(values: Mapping[str, Values]) -> Figures:
    """The figures of the metrics in `values`, NaN left out."""
    applying = {name: values[name][~np.isnan(values[name])] for name in METRICS if name in values}
    return {name: _figure(numbers) for name, numbers in applying.items() if len(numbers)}


def failures(metrics: Figures, limits: Mapping[str, float], against: Comparison | None) -> list[str]:
    """Where a run is worse than its limits, or significantly worse than another one."""
    lines = []
    for name, limit in limits.items():
        mean, lower = metrics[name].mean, name in LOWER_IS_BETTER
        if (mean > limit) if lower else (mean < limit):
            lines.append(f"{name} is {mean:.4f}, {'above' if lower else 'below'} {limit:g}")
    if against:
        lines += [
            f"{name} is {change.mean:.4f}, significantly worse than {change.against:.4f} (p = {change.p_value:.2g})"
            for name, change in against.metrics.items()
            if change.verdict == "worse"
        ]
    return lines


def _figure(values: Values) -> Figure:
    low, high = interval(values) or (None, None)
    return Figure(float(values.mean()), low, high, len(values))
