"""LDS against compute: the frontier is what nothing cheaper reaches, and every cost is accounted for."""

import json

import numpy as np
import pytest

from tests.evaluate.banks import LinearBank
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate import compare, cost_curve


@pytest.fixture(scope="module")
def comparison():
    bank, rng = LinearBank(models=400, noise=0.7), np.random.default_rng(1)
    ids = {"target_ids": bank.target_ids, "train_ids": bank.train_ids}
    noise = rng.normal(size=bank.weight.shape)
    named = {
        name: Attribution(share * bank.weight + (1 - share) * noise * bank.weight.std(), method=name, **ids)
        for name, share in {"truth": 1.0, "good": 0.7, "poor": 0.4, "random": 0.0}.items()
    }
    return compare(named, bank, bootstrap=100)


def test_frontier_joins_what_nothing_cheaper_reaches(comparison):
    curve = cost_curve(comparison, {"random": 0, "good": 5, "poor": 40, "truth": 500})
    assert [row.method for row in curve.rows] == ["random", "good", "poor", "truth"]
    assert [row.method for row in curve.frontier] == ["random", "good", "truth"]
    assert [(budget, row.method) for budget, row in curve.steps] == [
        (1, "random"),
        (10, "good"),
        (100, "good"),
        (1000, "truth"),
    ]
    assert curve.best(5).method == "good" and curve.best(4.9).method == "random"
    assert curve.ceiling == comparison.scores["truth"].ceiling
    gain = comparison.scores["good"].mean - comparison.scores["random"].mean
    assert f"{gain:+.2f} from 1 to 10" in curve.sentence and "noise ceiling" in str(curve)
    assert json.dumps(curve.to_dict())


def test_where_money_buys_nothing_it_says_so(comparison):
    curve = cost_curve(comparison, {"random": 30, "good": 20, "poor": 10, "truth": 0.5})
    assert [row.method for row in curve.frontier] == ["truth"] and curve.best(0.1) is None
    assert "Nothing that costs more than truth" in curve.sentence


@pytest.mark.parametrize(
    "costs, words",
    [
        ({"random": 0, "good": 5, "poor": 40}, "it lacks 'truth'"),
        ({"random": 0, "good": 5, "poor": 4, "truth": 1, "more": 2}, "does not have 'more'"),
        ({"random": -1, "good": 5, "poor": 4, "truth": 1}, r"trainings\['random'\] is -1"),
        ({"random": 1, "good": float("nan"), "poor": 4, "truth": 1}, r"trainings\['good'\] is nan"),
    ],
)
def test_costs_must_be_those_of_the_comparison(comparison, costs, words):
    with pytest.raises(InputError, match=words):
        cost_curve(comparison, costs)
