"""Cloning studies: what they are made of, that they learn, what cannot be cloned."""

import numpy as np
import pytest

from tests.study.robots.made import driven
from whence.errors import InputError
from whence.study.robots import (
    Demonstrations,
    TanhGaussian,
    cloning_recipe,
    cloning_study,
    target_groups,
    target_ids,
)
from whence.training import train


def study(prior=None, targets=None, **options):
    prior = driven(8) if prior is None else prior
    recipe = cloning_recipe(prior, **{"epochs": 30, "batch_size": 16, "width": 16, "depth": 2, **options})
    return cloning_study(prior, driven(2, seed=5) if targets is None else targets, recipe)


def test_a_study_of_steps():
    s, prior = study(), driven(8)
    assert s.n == prior.steps and s.outputs == ("loss",)
    np.testing.assert_array_equal(s.train_answers, prior.actions)
    assert s.recipe.loss == TanhGaussian() and s.target_ids[0] == "reach/0/0"


def test_it_learns():
    def loss(epochs):
        one = study(driven(30), epochs=epochs, loss=TanhGaussian(lowest=-1.0, margin=0.01))
        run = next(iter(one.trainer().train(np.ones((1, one.n), bool), np.array([0]))))
        return run.outputs["loss"].mean()

    assert loss(30) < loss(1) - 0.5
    assert train(study(epochs=1)).training is False


def test_groups_of_targets_are_tasks():
    both = Demonstrations.concatenate([driven(2, "a"), driven(1, "b", seed=1)])
    groups = target_groups(both)
    assert list(groups) == ["a", "b"] and sum(map(len, groups.values())) == both.steps
    assert groups["b"][0] == "b/2/0" and len(set(target_ids(both))) == both.steps


def test_observations_that_never_vary_are_not_blown_up():
    prior = driven(4)
    padded = Demonstrations(
        np.c_[prior.observations, np.zeros((prior.steps, 1))], prior.actions, prior.lengths, prior.tasks
    )
    spread = cloning_recipe(padded, epochs=1, batch_size=4).model.args[5]
    assert spread[-1] == pytest.approx(1e-2) and min(spread[:-1]) > 0.1


def test_what_cannot_be_cloned_is_refused():
    with pytest.raises(InputError, match="targets have observations of size 4 and actions of size 2"):
        wide = Demonstrations(np.zeros((3, 5)), np.zeros((3, 2)), np.array([3]), np.array(["a"]))
        study(prior=wide)
    strong = driven(3)
    strong = Demonstrations(strong.observations, 3 * strong.actions, strong.lengths, strong.tasks)
    with pytest.raises(InputError, match=r"actions of prior reach .* tanh policy acts within \[-1, 1\]"):
        study(prior=strong)
    with pytest.raises(InputError, match="target episode 1 is in prior too"):
        targets = Demonstrations.concatenate([driven(1, seed=9), driven(8).take([3])])
        study(targets=targets)
