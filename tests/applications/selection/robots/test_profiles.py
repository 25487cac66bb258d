"""Profiles: strata of probes, the posterior against enumeration of its Gaussian, what is found."""

import numpy as np
import pytest

from whence.applications.selection.robots.profiles import (
    KNOTS,
    Profiles,
    _features,
    best,
    knots,
    probe,
    ranks_of,
)

N, COUNT = 300, 30


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ranks(rng, rules=2):
    return ranks_of(rng.normal(size=(rules, N)))


def test_ranks_start_with_the_highest_score():
    assert ranks_of([np.array([0.1, 3.0, 2.0])]).tolist() == [[3, 1, 2]]


def test_a_probe_holds_whole_strata_of_one_rule_and_exactly_so_many(rng):
    rank = ranks_of([-np.arange(N)])
    masks = np.array([probe(rank, COUNT, rng) for _ in range(400)])
    assert (masks.sum(1) == COUNT).all()
    # of a stratum (here ranks 9 to 15, 32 to 60) all compete or none, so its members go together
    inside = masks[:, 8:15].sum(1), masks[:, 31:60].sum(1)
    assert [np.mean(one == 0) for one in inside] == pytest.approx([0.5, 0.5], abs=0.12)
    assert np.var(inside[0]) > 2 * 7 * masks[:, 10].mean() * (1 - masks[:, 10].mean())
    assert 0.02 < masks[:, 4 * COUNT :].any(1).mean() < 0.9  # the far ones fill up where these are few


def test_a_probe_of_a_small_pool_fills_up_with_what_is_out(rng):
    for count in (1, 3, 7):
        masks = [probe(ranks_of(rng.normal(size=(1, 8))), count, rng) for _ in range(20)]
        assert {int(mask.sum()) for mask in masks} == {count}


def test_best_takes_the_largest():
    assert best(np.array([0.0, 2.0, -1.0, 1.0]), 2).tolist() == [False, True, False, True]


def test_features_are_hats_with_the_covariance_of_a_smooth_function(rng):
    rank = ranks(rng)
    features = _features(rank, knots(N, COUNT))
    assert features.shape == (N, 2 * KNOTS)
    for rule, place in ((0, 1), (1, N)):  # at a knot the variance is one for each rule
        row = features[rank[rule] == place][0, rule * KNOTS : (rule + 1) * KNOTS]
        assert row @ row == pytest.approx(1, abs=1e-5)


def fitted(rng, effect, rules=2, policies=60, noise=0.1):
    rank = ranks(rng, rules)
    masks = np.array([probe(rank, COUNT, rng) for _ in range(policies)])
    success = 0.5 + masks @ effect(rank) / COUNT + noise * rng.normal(size=policies)
    return rank, masks, success, Profiles(rank, masks, success)


def test_the_posterior_is_that_of_the_joint_gaussian(rng):
    rank, masks, success, fit = fitted(rng, lambda r: 0.4 * (r[0] < 20))
    features = _features(rank, knots(N, COUNT))
    prior = fit.scale**2 * (features @ features.T + fit.own**2 * np.eye(N))
    design = (masks - masks.mean(0)) / COUNT
    seen = design @ prior @ design.T + fit.noise * np.eye(len(masks))
    gain = prior @ design.T @ np.linalg.inv(seen)
    np.testing.assert_allclose(fit.mean(), gain @ (success - success.mean()), atol=1e-8)
    draws = np.array([fit.draw(rng) for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), fit.mean(), atol=0.08 * fit.scale)
    np.testing.assert_allclose(np.cov(draws.T), prior - gain @ design @ prior, atol=0.2 * fit.scale**2)


def test_what_is_foretold_of_a_policy_does_not_use_it(rng):
    rank, masks, success, fit = fitted(rng, lambda r: 0.4 * (r[0] < 20))
    design = (masks - masks.mean(0)) / COUNT
    features = _features(rank, knots(N, COUNT))
    seen = fit.scale**2 * design @ (features @ features.T + fit.own**2 * np.eye(N)) @ design.T
    y, others = success - success.mean(), np.arange(len(masks)) != 7
    inverse = np.linalg.inv(seen[np.ix_(others, others)] + fit.noise * np.eye(others.sum()))
    assert fit.left_out()[7] == pytest.approx(seen[7, others] @ inverse @ y[others], abs=1e-8)


def test_a_harmful_band_behind_good_ones_is_found(rng):
    """By the first rule 15 clusters help and the next 45 harm; the second rule says nothing."""
    rank, _, _, fit = fitted(rng, lambda r: 1.0 * (r[0] <= 15) - 1.0 * ((r[0] > 15) & (r[0] <= 60)))
    effects = fit.mean()
    order = rank[0]
    assert (
        effects[order <= 10].mean()
        > effects[order > 100].mean()
        > effects[(order > 20) & (order < 50)].mean()
    )
    chosen = best(effects, COUNT)
    assert (chosen & (order > 20) & (order < 55)).sum() <= 2


def test_effects_are_the_sum_of_the_functions_and_a_part_of_their_own(rng):
    rank, _, _, fit = fitted(rng, lambda r: 2.0 * (r[0] <= 15), policies=120, noise=0.05)
    functions = fit.functions()
    assert functions.shape == (2, KNOTS) and fit.knots[0] == 1 and fit.knots[-1] == N
    summed = sum(np.interp(np.log(rank[g]), np.log(fit.knots), functions[g]) for g in range(2))
    own = fit.mean() - summed
    np.testing.assert_allclose(np.corrcoef(summed, fit.mean())[0, 1], 1, atol=0.2)
    # what is left is a multiple of how the policies' choices foretell each cluster alone
    alone = fit.scale**2 * fit.own**2 * fit._design.T @ fit._solve(fit._y)
    np.testing.assert_allclose(own, alone, atol=1e-8)
    assert functions[0][0] - functions[0][-1] > 2 * abs(functions[1][0] - functions[1][-1])


def test_noise_alone_has_small_effects(rng):
    *_, fit = fitted(rng, lambda r: np.zeros(N), noise=0.15)
    assert fit.scale == 0.1 and np.abs(fit.mean()).max() < 0.2
