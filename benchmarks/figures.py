"""One comparison each: ours against a baseline, in turn, as the median of their ratios with its spread."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from unittest.mock import patch

from ragjob.engines.causal_lm import KEEP_MEMORY

GPUS = float(os.environ.get("RAGJOB_BENCH_GPUS", "0"))  # of which the models get so much
Found = TypeVar("Found")


@dataclass(frozen=True)
class Figure:
    """`ours` and `baseline` are medians in `unit`; `ratios` are ours / baseline, one a pair.

    `at_most` or `at_least` is what the median ratio is held to.
    """

    name: str
    unit: str
    ours: float
    baseline: float
    baseline_name: str
    ratios: list[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def holds(self) -> bool:
        """Whether the median ratio is as it should be."""
        return (self.at_most is None or self.ratio <= self.at_most) and (
            self.at_least is None or self.ratio >= self.at_least
        )


def compare(
    name: str,
    unit: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    baseline_name: str,
    *,
    runs: int = 3,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Measure both in turn, `runs` times; each gives its quantity in `unit`."""
    pairs = [(ours(), baseline()) for _ in range(runs)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [first / second for first, second in pairs]
    return Figure(name, unit, mine, theirs, baseline_name, ratios, at_most, at_least)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def as_a_generator(run: Callable[..., Found], *args: object) -> Found:
    """What `run` gives in a process that starts as those of a generator's pool on processors do."""
    with (
        patch.dict(os.environ, KEEP_MEMORY),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
    ):
        return process.submit(run, *args).result()
