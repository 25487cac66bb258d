"""Matching by the tangent kernel: it reaches the targets and leaves the rest alone."""

import numpy as np
import pytest
import torch

from benchmarks import unlearning_convex
from tests.applications.unlearning.studies import FORGET, N, attribution, bases, study
from whence.applications.unlearning import DatamodelDirect, DatamodelMatching, KernelMatching
from whence.applications.unlearning.objectives import centred
from whence.errors import InputError
from whence.training.finetune import Finetuner


def outputs(subject, models):
    tuner = Finetuner(subject)
    return centred(tuner.logits(tuner.load(models)))


def test_targets_are_reached_and_the_others_stay():
    subject = study()
    models, scores = bases(subject), attribution(subject)
    goal = DatamodelDirect(attribution=scores, staying=0.0).predict(models, subject, FORGET)[:, :N]
    before = outputs(subject, models)[:, :N]
    kernel = KernelMatching(attribution=scores, staying=0.0, steps=8, ridge=1e-4)
    found = outputs(subject, kernel.unlearn(models, subject, FORGET))[:, :N]
    assert (found - goal).square().mean() < 1e-3 * (before - goal).square().mean()
    # further steps come nearer, and a fine-tuning of like cost moves what it does not see
    errors = []
    for steps in (1, 2, 4):
        method = KernelMatching(attribution=scores, staying=0.0, steps=steps, ridge=1e-2)
        errors.append(
            float((outputs(subject, method.unlearn(models, subject, FORGET))[:, :N] - goal).square().mean())
        )
    assert errors[0] > errors[1] > errors[2]
    tuned = DatamodelMatching(attribution=scores, staying=0.0, lr=1e-2, epochs=30, keeping=2)
    there = outputs(subject, tuned.unlearn(models, subject, FORGET))[:, :N]
    assert (there - goal).square().mean() > 3 * errors[2]


def test_the_exact_oracle_of_ridge_regression_in_one_step():
    problem = unlearning_convex.ridge(n=60, d=5, forgotten=4, rare=0.1)
    method = KernelMatching(attribution=problem.attribution(), steps=1, ridge=1e-12)
    start = {"weight": torch.as_tensor(problem.whole)}
    found = method.unlearn([start], problem.study, problem.forget)
    assert unlearning_convex.distance(problem, found[0]["weight"].numpy()) < 1e-6


def test_a_kernel_is_made_once_for_all_requests_of_a_model(monkeypatch):
    from whence.applications.unlearning import kernel_matching

    made, real = [], kernel_matching.Tangent

    def counted(*given):
        made.append(given)
        return real(*given)

    monkeypatch.setattr(kernel_matching, "Tangent", counted)
    subject = study()
    models = bases(subject, 3)
    method = KernelMatching(attribution=attribution(subject), remember=2)
    first = method.unlearn(models[:2], subject, FORGET)
    method.unlearn(models[:2], subject, [4, 5])
    again = method.unlearn(models[:2], subject, FORGET)
    assert len(made) == 2
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    other = method.towards(attribution(subject, seed=1))
    moved = other.unlearn(models[:2], subject, FORGET)
    assert len(made) == 2 and any(not torch.equal(moved[0][key], first[0][key]) for key in moved[0])
    method.unlearn(models, subject, FORGET)  # the third model takes the place of the first
    assert len(made) == 3
    assert len(method._kept) == 2


def test_cost():
    subject = study()
    one, two = (KernelMatching(attribution=attribution(subject), steps=k) for k in (1, 2))
    assert 0 < one.cost(subject, FORGET).share < two.cost(subject, FORGET).share < 0.5
    assert one.cost(subject, FORGET).before == pytest.approx(100 * 0.5 + one.prepared(subject))
    assert one.prepared(subject) > 1 / subject.recipe.epochs  # a gradient of every example at least
    assert "attribution" not in repr(one) and set(one.describe()) >= {"ridge", "steps", "staying"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 and remember=1 must be at least 1"),
        ({"ridge": 0.0}, "ridge=0 above 0"),
        ({"ridge": np.nan}, "ridge=nan above 0"),
        ({"remember": 0}, "remember=0 must be at least 1"),
        ({"memory": 1000}, "60 outputs by .* weights .* memory allows 0.0; pass more, or use"),
        ({"staying": -1}, "staying must be a share"),
    ],
)
def test_bad_input(options, message):
    subject = study()
    method = KernelMatching(attribution=attribution(subject), **options)
    with pytest.raises(InputError, match=message):
        method.unlearn(bases(subject, 1), subject, FORGET)
