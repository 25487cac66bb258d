"""LESS against its release's formula, written out with autograd on a network whose projection is exact."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.applications.selection.pools import examples
from whence.applications.selection import Less, Pool, scores_of, select
from whence.applications.selection.less import warm_up
from whence.errors import InputError
from whence.study import Study

N, T = 30, 6


def linear():
    return nn.Linear(6, 3)  # one layer of 21 numbers: a projection to 32 places is one to one


def study(optimizer=None, **recipe):
    rng = np.random.default_rng(1)
    given = {"epochs": 5, "batch_size": 4, "optimizer": optimizer or whence.Adam(lr=0.05), **recipe}
    return Study(
        examples(N, rng)[:2], examples(T, rng)[:2], whence.Recipe(model=linear, **given), outputs=["loss"]
    )


def gradient(state, x, y):
    """(21,) gradient of the loss of one example, weight and bias."""
    parameters = {k: v.clone().requires_grad_() for k, v in state.items()}
    logits = x @ parameters["weight"].T + parameters["bias"]
    loss = nn.functional.cross_entropy(logits[None], y[None])
    found = torch.autograd.grad(loss, [parameters["weight"], parameters["bias"]])
    return torch.cat([g.flatten() for g in found]).double()


def flat(tensors):
    return torch.cat([tensors[k].flatten() for k in ("weight", "bias")]).double()


def by_hand(pool, rule, seed, adam=True):
    """(n, targets) scores of the release."""
    moments = warm_up(pool, rule.share, rule.epochs, seed)
    rates = np.array([moment.rate for moment in moments])
    total = torch.zeros(pool.n, len(pool.study.target_ids), dtype=torch.float64)
    sides = []
    for one in (pool.study.train, pool.study.targets):
        sides.append((torch.tensor(one.inputs), torch.tensor(one.labels)))
    for moment, share in zip(moments, rates / rates.sum(), strict=True):
        state = moment.checkpoint.load()
        rows = [torch.stack([gradient(state, x, y) for x, y in zip(*side, strict=True)]) for side in sides]
        if adam:
            mean = 0.9 * flat(moment.moments["mean"]) + 0.1 * rows[0]
            square = 0.999 * flat(moment.moments["square"]) + 0.001 * rows[0] ** 2
            rows[0] = mean / torch.sqrt(square + 1e-8)
        unit = [nn.functional.normalize(row, dim=1) for row in rows]
        total += share * (unit[0] @ unit[1].T)
    return total.numpy()


RULE = Less(share=0.4, epochs=3, projection=32)


def test_scores_are_those_of_the_release():
    pool = Pool(study())
    np.testing.assert_allclose(scores_of(RULE, pool, 3), by_hand(pool, RULE, 3).mean(1), atol=2e-5)


def test_another_seed_is_another_warm_up():
    pool = Pool(study())
    first, second = scores_of(RULE, pool, 0), scores_of(RULE, pool, 1)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(scores_of(RULE, pool, 0), first)


def test_with_sgd_the_plain_gradient_is_taken():
    pool = Pool(study(whence.SGD(lr=0.1, momentum=0.9)))
    expected = by_hand(pool, RULE, 0, adam=False).mean(1)
    np.testing.assert_allclose(scores_of(RULE, pool), expected, atol=2e-5)


def test_means_within_a_subtask_and_the_largest_over_subtasks():
    pool = Pool(study())
    rule = dataclasses.replace(RULE, subtasks={"first": [0, 1], "second": [2, 3, 4, 5]})
    each = by_hand(pool, RULE, 0)
    expected = np.maximum(each[:, :2].mean(1), each[:, 2:].mean(1))
    np.testing.assert_allclose(scores_of(rule, pool), expected, atol=2e-5)
    part = pool.only([1, 2], "two")
    np.testing.assert_allclose(scores_of(rule, part), np.maximum(each[:, 1], each[:, 2]), atol=2e-5)
    with pytest.raises(InputError, match="none of the subtasks"):
        scores_of(dataclasses.replace(RULE, subtasks={"first": [0]}), pool.only([5], "other"))


def test_the_warm_up_ends_its_epochs_where_it_says():
    subject = study(schedule=whence.Triangle(peak=0.5))
    moments = warm_up(Pool(subject), 0.4, 3)  # 12 candidates, 3 steps an epoch
    assert [moment.checkpoint.name for moment in moments] == ["epoch 1", "epoch 2", "epoch 3"]
    factors = [subject.recipe.schedule.factor(t, 9) for t in range(9)]
    expected = 0.05 * np.reshape(factors, (3, 3)).mean(1)
    np.testing.assert_allclose([moment.rate for moment in moments], expected)
    states = [moment.checkpoint.load()["weight"] for moment in moments]
    assert not torch.equal(states[0], states[1]) and set(moments[0].moments) == {"mean", "square"}


def test_a_harmful_label_gets_a_low_score():
    rng = np.random.default_rng(0)
    x, y, wrong = examples(200, rng, noise=0.3)
    recipe = whence.Recipe(model=linear, epochs=5, batch_size=10, optimizer=whence.Adam(lr=0.02))
    subject = Study((x, y), examples(40, rng)[:2], recipe, outputs=["loss"])
    scores = scores_of(Less(share=0.3, projection=32), Pool(subject))
    assert (
        wrong[select(scores, count=50)].mean()
        < 0.1
        < 0.5
        < wrong[select(scores, count=50, worst=True)].mean()
    )


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"share": 0}, "share=0 must lie above 0"),
        ({"epochs": 0}, "epochs=0"),
        ({"projection": 0}, "projection=0"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InputError, match=words):
        Less(**settings)


def test_a_study_that_cannot_be_followed():
    x, y = examples(N, np.random.default_rng(0))[:2]
    loop = Study.from_training_function(lambda *_: None, (x, y), (x[:T] + 1, y[:T]), outputs=["loss"])
    with pytest.raises(InputError, match="gradients need a study with a Recipe"):
        scores_of(RULE, Pool(loop))
    with pytest.raises(InputError, match="no step with batches of 20"):
        scores_of(RULE, Pool(study(batch_size=20, drop_last=True)))
