"""How far a mean may be off, and whether a difference may be chance: by resampling the prompts.

A mean depends on how often each distinct value occurs, so these numbers are drawn instead of the prompts: 100,000 hits
and misses take no longer than ten. The same values always give the same figures.
"""

import numpy as np

from ragjob.evaluation.ranking import Values

CONFIDENCE = 0.95
MOST_RESAMPLES, FEWEST_RESAMPLES = 9_999, 999
MOST_DRAWS = 3_000_000  # of one number each, which decide the time
BATCH_DRAWS = 1_000_000  # held in memory at once
MOST_EXACT = 12  # differences whose signs are flipped in all ways


def interval(values: Values) -> tuple[float, float] | None:
    """The 95 % interval of the mean, by the percentile bootstrap; None for fewer than two values."""
    size = len(values)
    if size < 2:
        return None
    distinct, counts = np.unique(values, return_counts=True)
    rng, shares = np.random.default_rng(0), counts / size
    means = [rng.multinomial(size, shares) @ distinct / size for _ in range(_resamples(len(distinct)))]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def p_value(differences: Values) -> float:
    """The two-sided p-value of a paired permutation test: with signs flipped, how often the sum is as far from 0.

    Few differences are flipped in all possible ways, many at random.
    """
    from scipy import stats

    changed = differences[differences != 0]  # flipping 0 changes nothing
    if len(changed) < 2:
        return 1.0
    if len(changed) <= MOST_EXACT:
        test = stats.permutation_test((changed,), np.sum, permutation_type="samples", n_resamples=2**MOST_EXACT)
        return float(test.pvalue)
    rng = np.random.default_rng(0)
    distances, counts = np.unique(np.abs(changed), return_counts=True)

    def flipped(size: tuple[int, int]) -> Values:
        kept = rng.binomial(counts, 0.5, (size[0], len(counts)))
        return np.asarray((2 * kept - counts) @ distances).reshape(size)

    resamples, batch = _resamples(len(counts)), max(1, BATCH_DRAWS // len(counts))
    test = stats.monte_carlo_test([changed.sum()], flipped, np.sum, n_resamples=resamples, batch=batch)
    return float(test.pvalue)


def _resamples(draws: int) -> int:
    """How often to resample where that takes so many draws."""
    return int(np.clip(MOST_DRAWS // draws, FEWEST_RESAMPLES, MOST_RESAMPLES))
