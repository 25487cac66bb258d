"""Matching by the tangent kernel: it reaches the targets and leaves the rest alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import unlearning_convex
from tests.applications.unlearning.studies import CLASSES, FORGET, N, attribution, bases, study
from whence.applications.unlearning import DatamodelDirect, DatamodelMatching, KernelMatching, Request
from whence.applications.unlearning.effects import entangled
from whence.applications.unlearning.objectives import centred
from whence.attribution import Attribution
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
    everything = {"attribution": scores, "staying": 0.0, "kept_share": 1.0, "iterations": 100}
    kernel = KernelMatching(**everything, steps=8, ridge=1e-4)
    found = outputs(subject, kernel.unlearn(models, subject, FORGET))[:, :N]
    assert (found - goal).square().mean() < 1e-3 * (before - goal).square().mean()
    # further steps come nearer, and a fine-tuning of like cost moves what it does not see
    errors = []
    for steps in (1, 2, 4):
        method = KernelMatching(**everything, steps=steps, ridge=1e-2)
        errors.append(
            float((outputs(subject, method.unlearn(models, subject, FORGET))[:, :N] - goal).square().mean())
        )
    assert errors[0] > errors[1] > errors[2]
    tuned = DatamodelMatching(attribution=scores, staying=0.0, lr=1e-2, epochs=30, keeping=2)
    there = outputs(subject, tuned.unlearn(models, subject, FORGET))[:, :N]
    assert (there - goal).square().mean() > 3 * errors[2]


def test_what_is_kept_stays_where_it_is():
    subject = study()
    models, scores = bases(subject), attribution(subject)
    request = Request.of(subject, FORGET)
    kept = entangled(scores, request, 12)
    loose = np.setdiff1d(request.retain, kept)
    before = outputs(subject, models)
    moves = []
    for kept_share in (0.0, 12 / 27):
        method = KernelMatching(
            attribution=scores, staying=0.0, kept_share=kept_share, iterations=50, ridge=1e-3
        )
        found = outputs(subject, method.unlearn(models, subject, FORGET)) - before
        moves.append([float(found[:, at].square().mean()) for at in (kept, loose)])
    assert moves[1][0] < 0.05 * moves[0][0]
    assert moves[1][0] < 0.2 * moves[1][1]  # what it does not see, it does move


def test_entangled_examples_are_those_of_the_greatest_weights_either_way():
    subject = study()
    weight = np.zeros((len(subject.target_ids), CLASSES, N))
    weight[20, :, 7] = 1, 0, -1  # example 20 depends on 7, which is to be forgotten
    weight[7, :, 4] = 0, 2, 0  # 7 depends on 4
    weight[9, :, 11] = 5, 5, 5  # the same for all classes, which softmax does not see
    weight[3, :, 8] = 9, 0, 0  # none of the two is forgotten
    shuffled = np.random.default_rng(0).permutation(N)
    scores = Attribution(
        weight[:, :, shuffled],
        target_ids=subject.target_ids,
        train_ids=subject.train_ids[shuffled],
        output_ids=["0", "1", "2"],
        output="logits",
        calibrated=True,
    )
    request = Request.of(subject, FORGET)
    assert set(entangled(scores, request, 2)) == {4, 20}
    assert list(entangled(scores, request, 1)) == [4]  # 8/3 against 2
    assert list(entangled(scores, request, 5)) == [0, 1, 3, 4, 20]  # ties by position
    assert np.array_equal(entangled(scores, request, 27), request.retain)
    assert len(entangled(scores, request, 0)) == 0


def test_the_exact_oracle_of_ridge_regression_in_one_step():
    problem = unlearning_convex.ridge(n=60, d=5, forgotten=4, rare=0.1)
    method = KernelMatching(attribution=problem.attribution(), kept_share=1.0, ridge=1e-12)
    start = {"weight": torch.as_tensor(problem.whole)}
    found = method.unlearn([start], problem.study, problem.forget)
    assert unlearning_convex.distance(problem, found[0]["weight"].numpy()) < 1e-6


def test_cost():
    subject = study()
    one = KernelMatching(attribution=attribution(subject))
    two, all_kept, longer = (
        replace(one, **change) for change in ({"steps": 2}, {"kept_share": 1.0}, {"iterations": 30})
    )
    share = one.cost(subject, FORGET).share
    assert 0 < share < min(way.cost(subject, FORGET).share for way in (two, all_kept, longer))
    # a gradient of both free logits of each of 3 + 14 examples, at least
    assert one.cost(subject, FORGET).trained == 2 * (3 + 14)
    assert one.cost(subject, FORGET).before == pytest.approx(100 * 0.5)
    assert "attribution" not in repr(one)
    assert set(one.describe()) >= {"ridge", "steps", "staying", "kept_share", "iterations"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 and iterations=15 must be at least 1"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
        ({"ridge": 0.0}, "ridge=0 above 0"),
        ({"ridge": np.nan}, "ridge=nan above 0"),
        ({"kept_share": 1.5}, "kept_share must be a share from 0 to 1, received 1.5"),
        ({"kept_share": np.nan}, "kept_share must be a share"),
        ({"memory": 1000}, "34 outputs by .* weights .* memory allows 0.0; pass more or a smaller"),
        ({"staying": -1}, "staying must be a share"),
    ],
)
def test_bad_input(options, message):
    subject = study()
    method = KernelMatching(attribution=attribution(subject), **options)
    with pytest.raises(InputError, match=message):
        method.unlearn(bases(subject, 1), subject, FORGET)
