"""Areas under ROC curves against their definition, scikit-learn and the bootstrap."""

import numpy as np
import pytest

from whence.errors import InputError
from whence.evaluate.detection import auc, auc_difference, auc_interval, precision_at

RNG = np.random.default_rng(0)
POSITIVE = RNG.random(300) < 0.2
SCORE = np.round(RNG.normal(size=300) + POSITIVE, 1)  # with ties


def test_the_area_is_the_share_of_pairs_in_order():
    high, low = SCORE[POSITIVE][:, None], SCORE[~POSITIVE]
    expected = ((high > low) + 0.5 * (high == low)).mean()
    assert auc(SCORE, POSITIVE) == pytest.approx(expected)
    assert auc(-SCORE, POSITIVE) == pytest.approx(1 - expected)
    assert auc(np.exp(SCORE), POSITIVE) == pytest.approx(expected)
    assert auc(np.zeros(300), POSITIVE) == 0.5
    metrics = pytest.importorskip("sklearn.metrics")
    assert metrics.roc_auc_score(POSITIVE, SCORE) == pytest.approx(expected)


def resampled(statistic, times=2000):
    at, rest = np.flatnonzero(POSITIVE), np.flatnonzero(~POSITIVE)
    rng = np.random.default_rng(1)
    draws = [np.r_[rng.choice(at, len(at)), rng.choice(rest, len(rest))] for _ in range(times)]
    return np.std([statistic(draw) for draw in draws])


def test_intervals_are_as_wide_as_the_bootstrap_s():
    value, (low, high) = auc_interval(SCORE, POSITIVE)
    assert value == auc(SCORE, POSITIVE) and low < value < high
    deviation = resampled(lambda draw: auc(SCORE[draw], POSITIVE[draw]))
    assert (high - low) / 2 / 1.96 == pytest.approx(deviation, rel=0.1)
    assert auc_interval(POSITIVE.astype(float), POSITIVE) == (1, (1, 1))


def test_differences_are_paired():
    other = SCORE + 0.3 * RNG.normal(size=300)
    value, (low, high) = auc_difference(other, SCORE, POSITIVE)
    assert value == pytest.approx(auc(other, POSITIVE) - auc(SCORE, POSITIVE))
    deviation = resampled(
        lambda draw: auc(other[draw], POSITIVE[draw]) - auc(SCORE[draw], POSITIVE[draw]), 1000
    )
    assert (high - low) / 2 / 1.96 == pytest.approx(deviation, rel=0.15)
    alone = [end - start for _, (start, end) in (auc_interval(s, POSITIVE) for s in (other, SCORE))]
    assert high - low < 0.5 * np.hypot(*alone)
    assert auc_difference(SCORE, SCORE, POSITIVE) == (0, (0, 0))


def test_precision_of_the_first():
    score, positive = np.array([5.0, 4, 3, 2, 1]), np.array([True, False, True, False, False])
    assert precision_at(score, positive, 1) == 1 and precision_at(score, positive, 3) == pytest.approx(2 / 3)
    assert precision_at(np.zeros(5), positive, 2) == pytest.approx(0.4)  # ties are drawn at random
    assert precision_at(np.array([1.0, 0, 0, 0, 0]), positive, 2) == pytest.approx((1 + 0.25) / 2)


@pytest.mark.parametrize(
    ("score", "positive", "sentence"),
    [
        ([1.0, 2.0], [True, True], "marks 2 of 2"),
        ([1.0, 2.0], [0, 1], "booleans"),
        ([1.0, 2.0, 3.0], [True, False], "one length"),
        ([1.0, np.nan], [True, False], "1 NaN"),
    ],
)
def test_bad_input(score, positive, sentence):
    with pytest.raises(InputError, match=sentence):
        auc(np.array(score), np.array(positive))


def test_bad_counts():
    with pytest.raises(InputError, match="count is 0"):
        precision_at(np.zeros(3), np.array([True, False, False]), 0)
