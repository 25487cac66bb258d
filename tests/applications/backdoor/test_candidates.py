"""Ties by their definition, separation of planted groups, sizes found without being told."""

import numpy as np
import pytest
import torch

from whence.applications.backdoor.candidates import (
    Ties,
    apart,
    candidate,
    candidates,
    evidence,
)

RNG = np.random.default_rng(0)


def planted(m=160, size=24, shift=1.2, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(m, m)) + 0.3 * rng.normal(size=(m, 1)) + 0.3 * rng.normal(size=m)
    inside = np.sort(rng.choice(m, size, replace=False))
    w[np.ix_(inside, inside)] += shift
    w[np.arange(m), np.arange(m)] += 20
    return w.astype(np.float32), inside


def test_ties_are_means_of_centred_weights():
    w, _ = planted(30, 8)
    off = w.astype(float) - np.diag(np.diag(w.astype(float)))
    centred = off - off.sum(1, keepdims=True) / 29 - off.sum(0) / 29 + off.sum() / 29 / 30
    h = np.isin(np.arange(30), RNG.choice(30, 11, replace=False))
    expected = [
        np.mean([(centred[i, j] + centred[j, i]) / 2 for j in np.flatnonzero(h) if j != i]) for i in range(30)
    ]
    ties = Ties(w)
    assert ties.to(torch.tensor(h)).numpy() == pytest.approx(np.array(expected), abs=1e-5)
    singles = centred[~np.eye(30, dtype=bool)]
    assert ties.spread() == pytest.approx(singles.std(), rel=0.01)
    gap, spread = apart(torch.tensor(expected), torch.tensor(h))
    assert gap == pytest.approx(np.array(expected)[h].mean() - np.array(expected)[~h].mean())
    assert spread == pytest.approx(np.array(expected)[~h].std(ddof=1))


def test_a_planted_group_is_found_with_its_size():
    w, inside = planted()
    found = candidate(w, np.arange(160) + 1000, "cat", restarts=16, seed=0)
    assert set(found.members - 1000) >= set(inside) and found.size <= 28
    assert found.effect == pytest.approx(1.2, abs=0.25)
    assert found.support == pytest.approx((found.size - 1) * found.effect)
    assert found.ratio == pytest.approx(1.2 * 24**0.5, rel=0.25)
    # ties average both directions, so noise is down by another sqrt(2)
    assert found.separation == pytest.approx(2**0.5 * found.ratio, rel=0.3)
    order = [found.tie[m - 1000] for m in found.members]
    assert order == sorted(order, reverse=True)
    assert all(0 < share <= 1 for share in found.stability.values())


def test_noise_has_the_same_separation_whatever_the_size_of_the_class():
    for m in (60, 200, 400):
        w = np.random.default_rng(m).normal(size=(m, m)).astype(np.float32)
        assert 3 < candidate(w, np.arange(m), None, restarts=16, seed=0).separation < 4.5


def test_units_and_order_do_not_matter():
    w, _ = planted()
    order = np.random.default_rng(1).permutation(160)
    first = candidate(w, np.arange(160), None, 16, 0)
    second = candidate(7 * w[np.ix_(order, order)], order, None, 16, 0)
    shared = np.intersect1d(first.members, second.members)
    assert len(shared) >= 24 and max(first.size, second.size) <= 28
    assert second.separation == pytest.approx(first.separation, rel=0.15)
    assert second.effect == pytest.approx(7 * first.effect, rel=0.15)


def test_candidates_of_a_class_do_not_overlap():
    w, inside = planted()
    found = candidates(lambda at: w[np.ix_(at, at)], [("a", np.arange(160))], 3, 8, 0)
    assert len(found) == 3 and set(found[0].members) >= set(inside) and found[0].size < 28
    assert len(set(np.concatenate([one.members for one in found]))) == sum(one.size for one in found)
    assert found[0].separation > 1.5 * found[1].separation


def test_nothing_to_search():
    assert candidate(np.zeros((30, 30), np.float32), np.arange(30), None, 4, 0) is None
    assert candidate(np.zeros((60, 60), np.float32), np.arange(60), None, 4, 0) is None


def test_strength_and_the_support_it_takes():
    assert evidence(6.0, 20) == 360
    w, _ = planted()
    found = candidate(w, np.arange(160), None, 8, 0)
    assert found.strength == pytest.approx(found.evidence * found.support)
    assert found.evidence == pytest.approx(evidence(found.separation, found.size))
    needed = found.support_needed(found.strength, 20)
    # d of 1.2 on 24 members; fewer members have to do more for each other
    assert found.support < needed < 2 * found.support


def test_a_class_of_many_is_charged_for_its_choice():
    w = np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)
    pools = [("large", np.arange(240)), *((i, np.arange(240 + 40 * i, 280 + 40 * i)) for i in range(4))]
    found = candidates(lambda at: w[np.ix_(at, at)], pools, 1, 4, 0)
    logs = np.log([one.strength for one in found])
    assert logs[0] - logs[1:].mean() < 1.5
