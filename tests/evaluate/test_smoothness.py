"""Metasmoothness: 1 where training is linear, its formula elsewhere, and verdicts that tell recipes apart."""

from functools import partial

import numpy as np
import pytest
import torch

import whence
from tests.training.studies import CLASSES, N, study
from tests.training.test_replay import smooth
from whence.errors import InputError
from whence.evaluate import Metasmoothness, metasmoothness
from whence.study import SGD
from whence.training import mlp
from whence.training.run import Run


def linear_in_weights():
    """One step from zero: parameters are linear in the weights of examples."""
    return study("logistic", epochs=1, batch_size=N, optimizer=SGD(0.1))


def rough():
    return study(partial(mlp, 64, CLASSES, (16,)), epochs=10, batch_size=8, optimizer=SGD(0.5, 0.9))


def test_a_run_that_is_linear_in_the_weights_scores_one():
    found = metasmoothness(linear_in_weights(), directions=4)
    assert found.score == pytest.approx(1, abs=1e-4)
    assert found.verdict == "go" and "no-go" not in str(found)
    assert found.trainings == 9 and found.n == N and len(found.per_direction) == 4


def test_it_is_the_formula():
    s = study(smooth, epochs=2)
    found = metasmoothness(s, directions=1, left_out=0.2, seed=3)
    run, v = Run(s, 3), np.random.default_rng(3).normal(size=N)
    a, b, c = (
        torch.cat([p.flatten() for p in run.final(1 + k * np.sqrt(0.2) / 2 * v).parameters.values()]).numpy()
        for k in range(3)
    )
    weight = np.abs(c - a) / np.abs(c - a).sum()
    assert found.score == pytest.approx((weight * np.sign(b - a) * np.sign(c - b)).sum(), abs=1e-4)
    assert found.interval is None
    assert found.per_direction.tolist() == metasmoothness(s, 1, 0.2, 3).per_direction.tolist()


def test_a_smooth_recipe_is_a_go_and_a_rough_one_is_not():
    go, no = metasmoothness(study(smooth, optimizer=SGD(0.02, 0.9), batch_size=20)), metasmoothness(rough())
    assert go.verdict == "go" and go.interval[0] <= go.score <= go.interval[1]
    assert no.verdict == "no-go"
    assert "smooth_conv_net" in str(no) and "learning rate" in str(no) and "smooth_conv_net" not in str(go)
    assert no.to_dict()["score"] == no.score


def test_verdicts():
    def verdict(score, interval=None):
        return Metasmoothness(score, interval, np.array([score]), 0.05, 3, 10, 0).verdict

    assert [verdict(s) for s in (0.95, 0.9, 0.7, 0.59, -1)] == ["go", "go", "doubtful", "no-go", "no-go"]
    assert verdict(0.95, (0.8, 1.0)) == "doubtful"


def test_bad_input():
    with pytest.raises(InputError, match="directions"):
        metasmoothness(linear_in_weights(), directions=0)
    with pytest.raises(InputError, match="left_out"):
        metasmoothness(linear_in_weights(), left_out=1.0)
    with pytest.raises(InputError, match="Recipe"):
        metasmoothness(whence.Study.from_function(lambda m, s: [1.0], n=3, targets=1))
    with pytest.raises(InputError, match="not finite"):
        metasmoothness(study("mlp", optimizer=SGD(1e20)))
