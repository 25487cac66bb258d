"""Intervals of means and of differences against tables of Student's t."""

import numpy as np
import pytest

from whence.evaluate.intervals import mean_interval, student_quantile, welch


def test_student_and_welch():
    table = {1: 12.7062, 2: 4.30265, 5: 2.57058, 9.5: 2.2439, 30: 2.04227, 1000: 1.96234}
    for freedom, value in table.items():
        assert student_quantile(freedom) == pytest.approx(value, rel=2e-4)
    first, second = np.array([1.0, 2.0, 3.0]), np.array([5.0, 9.0])
    difference, (low, high) = welch(first, second)
    assert difference == -5 and low < -5 < high
    assert welch(np.ones(3), np.ones(2)) == (0.0, (0.0, 0.0))


def test_interval_of_a_mean():
    mean, (low, high) = mean_interval(np.array([1.0, 2.0, 6.0]))
    assert mean == 3 and high - mean == pytest.approx(mean - low)
    assert high - mean == pytest.approx(4.30265 * np.sqrt(7 / 3), rel=1e-4)  # variance 7, three values
