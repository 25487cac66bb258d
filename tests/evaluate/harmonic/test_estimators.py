"""The estimators of the variance split against exact truth: unbiased by enumeration of all draws, and
converging."""

from itertools import product

import numpy as np
import pytest

from tests.evaluate.harmonic.learners import all_masks, fixed_masks, probabilities, projected, ridge_outputs
from whence.attribution import Attribution
from whence.bank import Sample
from whence.evaluate.harmonic import (
    best_linear,
    coefficients,
    degree_weights,
    exact_group_effect,
    group_effect,
)
from whence.evaluate.harmonic.overlap import overlap
from whence.evaluate.harmonic.pairs import nonnegative_least_squares, pairs, published
from whence.evaluate.harmonic.units import of_sample
from whence.methods import Datamodel
from whence.subsets import Subsets


def units(masks, outputs, subsets, index=None):
    index = np.arange(len(masks)) if index is None else index
    return of_sample(Sample(masks, outputs, index, 0 * index, index, index), subsets)


def designs():
    """name -> (design, all its masks, their probabilities)."""
    coins, fixed = all_masks(3), fixed_masks(4, 2)
    strata = np.array([[*a, *b] for a in fixed_masks(2, 1) for b in fixed_masks(3, 1)])
    groups = np.array([0, 0, 1, 2])
    whole = fixed_masks(3, 1)[:, groups]
    return {
        "bernoulli": (Subsets.bernoulli(3, 0.3), coins, probabilities(coins, 0.3)),
        "uniform": (Subsets.uniform(4, 0.5), fixed, np.full(6, 1 / 6)),
        "stratified": (Subsets.stratified([0, 0, 1, 1, 1], 0.4), strata, np.full(6, 1 / 6)),
        "grouped": (Subsets.grouped(groups, 1 / 3), whole, np.full(3, 1 / 3)),
    }


@pytest.mark.parametrize("name", designs())
def test_overlap_is_unbiased_over_all_draws_of_three_masks(name):
    subsets, masks, p = designs()[name]
    outputs = 2 + np.random.default_rng(0).normal(size=(len(masks), 2))  # any function of the mask
    fitted = projected(masks, outputs, p, 1)
    centre = p @ outputs
    linear, total = p @ (fitted - centre) ** 2, p @ (outputs - centre) ** 2
    expected = np.zeros((2, 2))
    for drawn in product(range(len(masks)), repeat=3):
        found = overlap(units(masks[list(drawn)], outputs[list(drawn)], subsets))
        expected += p[list(drawn)].prod() * np.stack([found.linear, found.total])
    np.testing.assert_allclose(expected, [linear, total], atol=1e-10)


def test_overlap_is_unbiased_over_all_draws_of_two_correlated_pairs():
    keep, rho, n = 0.3, 0.4, 2
    masks = all_masks(n)
    outputs = np.array([[1.0], [-2.0], [0.5], [4.0]])
    both = [(a, b) for a in range(4) for b in range(4)]
    agree = np.where(
        masks[:, None] == masks[None], rho + (1 - rho) * np.where(masks, keep, 1 - keep)[None], 0
    )
    differ = np.where(masks[:, None] != masks[None], (1 - rho) * np.where(masks, keep, 1 - keep)[None], 0)
    chance = probabilities(masks, keep)[:, None] * (agree + differ).prod(2)
    assert chance.sum() == pytest.approx(1)
    linear = degree_weights(coefficients(outputs, keep))[1]
    expected = 0.0
    subsets = Subsets.correlated(n, keep, rho)
    for first, second in product(both, repeat=2):
        at = [*first, *second]
        expected += chance[first] * chance[second] * overlap(units(masks[at], outputs[at], subsets)).linear
    np.testing.assert_allclose(expected, linear, atol=1e-10)


N = 10
MASKS = all_masks(N)
OUTPUTS = 1 + ridge_outputs(MASKS, targets=2)


def drawn(keep, count, rho=None, seed=0, noise=0.0):
    """Masks by independent coins (the empty one included) in pairs of the given rhos, with the learner's
    outputs."""
    rng = np.random.default_rng(seed)
    first = rng.random((count // 2, N)) < keep
    again = rng.random((count // 2, N)) < keep
    if rho is None:
        subsets, second = Subsets.bernoulli(N, keep), again
    else:
        subsets = Subsets.correlated(N, keep, rho)
        levels = np.array([subsets.rho_of(pair) for pair in range(count // 2)])[:, None]
        second = np.where(rng.random(first.shape) < levels, first, again)
    masks = np.stack([first, second], 1).reshape(-1, N)
    outputs = OUTPUTS[masks @ (1 << np.arange(N))]
    return units(masks, outputs + noise * rng.normal(size=outputs.shape), subsets)


@pytest.mark.parametrize("keep", [0.3, 0.5])
def test_estimators_converge_to_the_exact_split(keep):
    weights = degree_weights(coefficients(OUTPUTS, keep))
    linear, variance = weights[1], weights[1:].sum(0)
    noise = 0.5 * np.sqrt(variance.mean())
    found = overlap(drawn(keep, 20_000, noise=noise))
    np.testing.assert_allclose(found.linear / linear, 1, atol=0.06)
    np.testing.assert_allclose(found.total, variance + noise**2, rtol=0.06)
    exact = linear / (variance + noise**2)
    assert (abs(found.linear / found.total - exact) < 4 * np.sqrt(found.linear_variance)).all()
    paired = pairs(drawn(keep, 100_000, (0.3, 0.6, 0.9, 1), noise=noise))
    np.testing.assert_allclose(paired.linear / linear, 1, atol=0.15)
    np.testing.assert_allclose(paired.seed, noise**2, rtol=0.03)
    np.testing.assert_allclose(published(drawn(keep, 200_000, (0, 0.2, 0.4))).linear / linear, 1, atol=0.25)


def test_group_effects_of_a_fitted_datamodel_converge_to_the_linear_terms():
    keep, group = 0.3, [1, 4, 7]
    found = drawn(keep, 40_000, noise=0.3)
    fit = Datamodel("ols").fit(found.masks, found.means)
    datamodel = Attribution(fit.weight, bias=fit.bias, calibrated=True, keep=keep)
    weight, _ = best_linear(coefficients(OUTPUTS, keep), keep)
    ids = [datamodel.train_ids[i] for i in group]
    for contrast, factor in (("deletion", -keep), ("addition", 1 - keep), ("inclusion", 1)):
        predicted = group_effect(datamodel, [ids], contrast)[:, 0]
        np.testing.assert_allclose(predicted, factor * weight[:, group].sum(1), atol=0.03)
    # and what leaving the group out of random subsets does, measured, converges to the exact effect
    index = found.masks @ (1 << np.arange(N))
    change = OUTPUTS[index & ~(1 << np.array(group)).sum()] - found.means
    exact = exact_group_effect(coefficients(OUTPUTS, keep), group, keep)
    assert (abs(change.mean(0) - exact) < 4 * change.std(0) / np.sqrt(len(change))).all()


def test_the_standard_error_of_the_overlap_is_its_spread():
    shares, claimed = [], []
    for seed in range(150):
        found = overlap(drawn(0.5, 120, seed=seed, noise=0.3))
        shares.append(found.linear / found.total)
        claimed.append(found.linear_variance)
    spread = np.std(shares, axis=0)
    assert (abs(np.sqrt(np.mean(claimed, axis=0)) / spread - 1) < 0.25).all()


def test_a_pooled_interval_counts_what_targets_share():
    """Twice the same target is no more evidence than once; many different ones are."""
    one = drawn(0.5, 400, noise=0.5)
    found = overlap(one)
    ones = np.ones(2)
    alone = found.spread(np.array([1.0, 0]), np.zeros(2), np.zeros(2))
    twice = overlap(units(one.masks, np.repeat(one.means[:, :1], 2, axis=1), one.subsets)).spread(
        ones / 2, np.zeros(2), np.zeros(2)
    )
    assert twice == pytest.approx(alone)


def test_repeats_of_a_mask_become_one_unit_and_a_pair_with_rho_one_too():
    masks = np.random.default_rng(0).random((4, 6)) < 0.5
    outputs = np.arange(8.0)[:, None]
    index = np.array([0, 1, 1, 2, 2, 2, 3, 3])
    found = units(masks[index], outputs, Subsets.bernoulli(6), index)
    assert found.seeds.tolist() == [1, 2, 3, 2] and found.repeats == 4
    np.testing.assert_allclose(found.means[:, 0], [0, 1.5, 4, 6.5])
    np.testing.assert_allclose(found.within[:, 0], [0, 0.5, 1, 0.5])
    twins = units(masks[[0, 0, 1, 2]], outputs[:4], Subsets.correlated(6, 0.5, (1, 0.5)))
    assert twins.seeds.tolist() == [2, 1, 1] and twins.partner.tolist() == [-1, 2, 1]
    assert twins.families == 2


def test_nonnegative_least_squares_is_optimal():
    rng = np.random.default_rng(0)
    design, values = rng.normal(size=(5, 3)), rng.normal(size=(5, 40))
    found = nonnegative_least_squares(design, values)
    gradient = design.T @ (design @ found - values)
    assert (found >= 0).all() and (gradient > -1e-9).all()  # Karush, Kuhn and Tucker
    np.testing.assert_allclose(found * gradient, 0, atol=1e-9)
    assert (found == 0).any() and (found > 0).any()
