"""Kaplan-Meier and log-rank: against counting by hand, and against scipy where it is there."""

import math

import numpy as np
import pytest

from whence.applications import kaplan_meier, log_rank
from whence.errors import InputError


def test_without_censoring_the_curve_is_the_share_flipped():
    curve = kaplan_meier([3, 1, 3, 7], [True] * 4)
    assert curve.size == (1, 3, 7)
    assert curve.flipped == pytest.approx((0.25, 0.75, 1.0))
    assert curve.at(2) == 0.25 and curve.at(3) == pytest.approx(0.75) and curve.at(0.5) == 0
    assert curve.quantile(0.5) == 3 and curve.quantile(0.25) == 1 and curve.censored == 0


def test_a_censored_target_counts_while_it_was_looked_at():
    # by hand: S(2) = 3/4, then one censored at 3, S(5) = 3/4 * 1/2
    curve = kaplan_meier([2, 3, 5, 9], [True, False, True, False])
    assert curve.flipped == pytest.approx((1 / 4, 5 / 8))
    assert curve.censored == 2 and curve.largest == 9
    # Greenwood at 2: 1/(4*3); log(-log) interval
    spread = 1.959963984540054 * math.sqrt(1 / 12) / -math.log(0.75)
    assert curve.low[0] == pytest.approx(1 - 0.75 ** math.exp(-spread))
    assert curve.high[0] == pytest.approx(1 - 0.75 ** math.exp(spread))


def test_nothing_flipped():
    curve = kaplan_meier([5, 5], [False, False])
    assert curve.size == () and curve.quantile() is None and curve.at(10) == 0 and curve.censored == 2


def test_log_rank_by_hand():
    # times 1 (a), 2 (b): at 1 risk 2+2, expected 1/2; at 2 risk 1+2, expected 1/3
    test = log_rank(([1, 3], [True, False]), ([2, 4], [True, False]))
    assert test.observed == 1 and test.expected == pytest.approx(1 / 2 + 1 / 3)
    variance = 1 / 4 + 2 / 9
    assert test.statistic == pytest.approx((1 - 5 / 6) ** 2 / variance)
    assert test.p == pytest.approx(math.erfc(math.sqrt(test.statistic / 2)))
    assert test.ahead


def test_pairs_are_a_sign_test():
    # a target is a stratum of two: the one that flips first wins; equal sizes say nothing
    a, b = (
        ([1, 2, 9, 4, 9], [True, True, True, True, False]),
        ([3, 5, 2, 4, 9], [True, True, True, True, False]),
    )
    test = log_rank(a, b, paired=True)
    assert test.statistic == pytest.approx((2 - 1) ** 2 / 3) and test.ahead


def test_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 20, 40), rng.integers(3, 30, 50)
    seen_a, seen_b = a < 15, b < 22
    a, b = np.minimum(a, 15), np.minimum(b, 22)
    x, y = (stats.CensoredData.right_censored(s, ~e) for s, e in ((a, seen_a), (b, seen_b)))
    ours, theirs = log_rank((a, seen_a), (b, seen_b)), stats.logrank(x, y)
    assert ours.p == pytest.approx(theirs.pvalue) and ours.statistic == pytest.approx(theirs.statistic**2)
    curve, reference = kaplan_meier(a, seen_a), stats.ecdf(x)
    at = dict(zip(reference.cdf.quantiles, reference.cdf.probabilities))
    assert curve.flipped == pytest.approx([at[size] for size in curve.size])
    low = reference.cdf.confidence_interval(method="log-log").low
    at = dict(zip(low.quantiles, low.probabilities))
    assert curve.low == pytest.approx([at[size] for size in curve.size])


@pytest.mark.parametrize("given", [([], []), ([1, 2], [True]), ([math.inf], [False])])
def test_bad_input(given):
    with pytest.raises(InputError, match="sizes"):
        kaplan_meier(*given)
    with pytest.raises(InputError, match="same targets"):
        log_rank(([1], [True]), ([1, 2], [True, True]), paired=True)
