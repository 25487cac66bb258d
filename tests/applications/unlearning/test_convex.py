"""Where the answer is known: exact datamodels lead matching to the oracle, in the steps that curvature
says."""

import pytest

from benchmarks.unlearning_convex import logistic, matched, race, ridge


@pytest.mark.parametrize("make", [ridge, logistic])
def test_matching_with_exact_datamodels_reaches_the_oracle(make):
    problem = make(n=120, d=8, forgotten=6)
    assert matched(problem, lr=0.1, epochs=2000, decay=0.99, keeping=10) < 1e-6


@pytest.mark.parametrize("make", [ridge, logistic])
def test_matching_beats_descent_by_the_steps_that_curvature_predicts(make):
    found = race(make(n=120, d=8, forgotten=6, rare=0.1))
    assert found.faster > 10 and found.descent_condition > 10 * found.matching_condition
    assert found.descent == pytest.approx(found.descent_predicted, rel=0.05)
    assert found.matching == pytest.approx(found.matching_predicted, rel=0.05)
