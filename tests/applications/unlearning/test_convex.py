"""Where the answer is known: exact datamodels lead matching to the oracle, in the steps that curvature says."""

import pytest

from benchmarks.unlearning_convex import logistic, matched, race, ridge


@pytest.mark.parametrize("make", [ridge, logistic])
def test_matching_with_exact_datamodels_reaches_the_oracle(make):
    problem = make(n=120, d=8, forgotten=6)
    assert matched(problem, lr=3e-2, epochs=1500, decay=0.985, keeping=10) < 1e-6


@pytest.mark.parametrize("make", [ridge, logistic])
def test_matching_beats_descent_by_the_ratio_of_condition_numbers(make):
    found = race(make(n=120, d=8, forgotten=6, rare=0.1))
    assert found.faster > 5
    assert found.faster == pytest.approx(found.predicted, rel=0.25)
