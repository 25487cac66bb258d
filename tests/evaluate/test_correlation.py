"""Correlations and their bootstrap, against scipy and against plain resampling."""

import numpy as np
import pytest

from whence.errors import InputError
from whence.evaluate.correlation import Resamples, average_ranks, correlations, is_constant

stats = pytest.importorskip("scipy.stats")


def columns(ties, seed=0, shape=(37, 11)):
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(0, 5, size=shape).astype(float), rng.integers(0, 9, size=shape).astype(np.float32)
    a = rng.normal(size=shape)
    return a, (a + rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scipy(ties):
    a, b = columns(ties)
    spearman = [stats.spearmanr(x, y).statistic for x, y in zip(a.T, b.T, strict=True)]
    pearson = [stats.pearsonr(x, y).statistic for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(correlations(a, b), spearman, atol=1e-12)
    np.testing.assert_allclose(correlations(a, b, "pearson"), pearson, atol=1e-7)
    np.testing.assert_array_equal(average_ranks(a), stats.rankdata(a, axis=0))


@pytest.mark.parametrize("rank", ["spearman", "pearson"])
@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_is_resampling_with_ranks_taken_anew(ties, rank):
    a, b = columns(ties)
    resamples = Resamples(len(a), a.shape[1], 100, seed=3)
    drawn = resamples.correlations(a, b, rank)
    for r in range(0, 100, 9):
        rows = np.repeat(np.arange(len(a)), resamples.masks[r])
        np.testing.assert_allclose(drawn[r], correlations(a[rows], b[rows], rank), atol=2e-6)
    weights = resamples.targets[0] / a.shape[1]
    assert resamples.mean_over_targets(drawn)[0] == pytest.approx(float(weights @ drawn[0]), abs=1e-6)
    assert (resamples.masks.sum(1) == len(a)).all() and (resamples.targets.sum(1) == a.shape[1]).all()


def test_constant_columns_correlate_with_nothing_even_when_rounding_stirs_them():
    a, b = columns(False)
    a = a.astype(np.float32)
    a[:, 0] = 3.0
    a[:, 1] = np.float32(3.0) + np.float32(2.4e-7) * (np.arange(len(a)) % 2)
    assert is_constant(a).tolist() == [True, True, *[False] * 9]
    for rank in ("spearman", "pearson"):
        assert (correlations(a, b, rank)[:2] == 0).all()
        assert (Resamples(len(a), a.shape[1], 100, 0).correlations(a, b, rank)[:, :2] == 0).all()


def test_monotone_change_leaves_ranks_alone():
    a, b = columns(False)
    np.testing.assert_array_equal(correlations(a, b), correlations(np.exp(a), 5 * b - 1))
    np.testing.assert_allclose(correlations(a, b), -correlations(-a, b))


def test_large_problems_are_resampled_less_and_too_few_resamples_refused():
    assert Resamples(1000, 5000, 1000, 0).times == 200
    assert Resamples(10, 5, 0, 0).times == 0
    with pytest.raises(InputError, match="bootstrap is 7"):
        Resamples(10, 5, 7, 0)
