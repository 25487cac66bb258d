"""LASSO from kink to kink: optimality, scikit-learn, the sweeps, and designs made to trip it."""

import warnings

import numpy as np
import pytest
import torch

from whence.errors import InputError
from whence.methods.regression import homotopy, lasso, lasso_path, moments

linear_model = pytest.importorskip("sklearn.linear_model")


def problem(m=40, n=200, t=6, seed=0, keep=0.5, noise=0.5, validation=30):
    """Fixed-size masks and outputs far from zero mean, of train and of validation rows."""
    generator = np.random.default_rng(seed)
    masks = np.argsort(generator.random((m + validation, n)), axis=1) < round(keep * n)
    effects = 0.02 * generator.standard_normal((n, t))
    effects[generator.integers(0, n, 6)] += generator.laplace(0, 0.3, (6, t))
    outputs = masks @ effects + 30 + noise * generator.standard_normal((m + validation, t))
    return masks[:m], outputs[:m], masks[m:], outputs[m:]


def excess(masks, outputs, weight, penalty):
    """How far c = cov(S, r) is from its conditions, over the penalty: on A it is l s, elsewhere within l."""
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    c = (y - s @ weight.T).T @ s / len(s) / penalty[:, None]
    return np.where(weight != 0, np.abs(c - np.sign(weight)), np.abs(c) - 1).max()


def exactly(masks, outputs, penalty):
    weight, gap = homotopy.solve(homotopy.Rows(masks, outputs), torch.as_tensor(penalty))
    return weight.numpy(), gap.numpy()


@pytest.mark.parametrize("share", [0.7, 0.1, 0.01, 1e-4])
def test_optimality_conditions_down_to_small_penalties(share):
    masks, outputs, *_ = problem()
    s = masks - masks.mean(0)
    top = np.abs((outputs - outputs.mean(0)).T @ s / len(s)).max(1)
    weight, gap = exactly(masks, outputs, share * top)
    assert gap.max() < 1e-9
    assert excess(masks, outputs, weight, share * top) < 1e-7
    assert ((weight != 0).sum(1) < len(masks)).all() and (weight != 0).any(1).all()
    assert (exactly(masks, outputs, 1.001 * top)[0] == 0).all()


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_weights_are_those_of_scikit_learn(share):
    masks, outputs, *_ = problem()
    assert homotopy.pays(*masks.shape)
    penalty = share * np.abs((outputs - outputs.mean(0)).T @ masks / len(masks)).max(1)
    fit = lasso(masks, outputs, penalty=penalty)
    for target, value in enumerate(penalty):
        theirs = linear_model.Lasso(alpha=value, tol=1e-12, max_iter=1_000_000)
        theirs.fit(masks.astype(float), outputs[:, target])
        np.testing.assert_allclose(fit.weight[target], theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(fit.bias[target], theirs.intercept_, atol=1e-5)
    assert fit.diagnostics["gap"].max() < 1e-9
    np.testing.assert_array_equal(fit.diagnostics["nonzeros"], (fit.weight != 0).sum(1))


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("refit", [True, False])
def test_the_sweeps_choose_the_same_penalty_and_weights(monkeypatch, early_stopping, refit):
    """Noisy validation, so that minima lie inside the grid and paths end early."""
    arrays = problem(m=50, n=120, noise=1.0)
    options = {"early_stopping": early_stopping, "refit": refit, "penalties": 25, "patience": 3}
    ours = lasso(*arrays, **options)
    monkeypatch.setattr(homotopy, "pays", lambda m, n: False)
    theirs = lasso(*arrays, **options, tol=1e-9)
    for name, rtol in (("penalty", 1e-6), ("validation_error", 1e-4)):
        np.testing.assert_allclose(ours.diagnostics[name], theirs.diagnostics[name], rtol=rtol)
    assert len(np.unique(np.round(ours.diagnostics["penalty"], 6))) > 3
    np.testing.assert_allclose(ours.weight, theirs.weight, atol=1e-4)
    np.testing.assert_allclose(ours.bias, theirs.bias, atol=2e-3)


def test_validation_errors_are_those_of_the_path():
    masks, outputs, v_masks, v_outputs = problem(m=50, n=120)
    rows = homotopy.Rows(masks, outputs, v_masks)
    penalty, error, settled = homotopy.choose(rows, v_outputs, count=20, ratio=0.05, patience=20)
    assert settled.all()
    grid, _, _ = lasso_path(moments(masks, outputs), penalties=20, ratio=0.05)
    errors = []
    for k in range(20):
        weight, _ = exactly(masks, outputs, grid[:, k])
        bias = outputs.mean(0) - weight @ masks.mean(0)
        errors.append(np.square(v_outputs - v_masks @ weight.T - bias).mean(0))
    np.testing.assert_allclose(error, np.min(errors, 0), rtol=1e-6)
    np.testing.assert_allclose(penalty, grid[np.arange(len(grid)), np.argmin(errors, 0)], rtol=1e-6)


def degenerate(name):
    masks, outputs, v_masks, v_outputs = problem(m=24, n=160)
    generator = np.random.default_rng(1)
    if name == "copies and complements":
        masks = np.concatenate([masks[:, :80], masks[:, :40], ~masks[:, :40]], 1)
    elif name == "constant columns":
        masks[:, 3], masks[:, 4] = True, False
    elif name == "a constant target":
        outputs[:, 1] = v_outputs[:, 1] = 0.1
    elif name == "few rows, so that most columns are copies":
        masks, outputs = masks[:7], outputs[:7]
    elif name == "repeated rows":
        masks = masks[generator.integers(0, 6, len(masks))]
    elif name == "outputs of whole numbers, which tie":
        outputs = np.round(outputs - 30)
    elif name == "outputs of two values":
        outputs = np.where(outputs > np.median(outputs, 0), 1.0, -1.0)
    elif name == "two retrainings far from the rest":
        outputs[:2] += 1000
    elif name == "one retraining differs":
        outputs[:] = 0
        outputs[5] = 1
    elif name == "noiseless, one example":
        outputs = np.repeat(masks[:, [7]] * 2.0, 6, 1)
    return masks, outputs, v_masks, v_outputs


@pytest.mark.parametrize(
    "name",
    [
        "copies and complements",
        "constant columns",
        "a constant target",
        "few rows, so that most columns are copies",
        "repeated rows",
        "outputs of whole numbers, which tie",
        "outputs of two values",
        "two retrainings far from the rest",
        "one retraining differs",
        "noiseless, one example",
    ],
)
def test_degenerate_designs_certify(name):
    masks, outputs, v_masks, v_outputs = degenerate(name)
    assert homotopy.pays(*masks.shape)
    y, s = outputs - outputs.mean(0), masks - masks.mean(0)
    top = np.abs(y.T @ s / len(s)).max(1)
    for share in (0.3, 0.02):
        penalty = share * np.where(top > 1e-9, top, 1.0)
        fit = lasso(masks, outputs, penalty=penalty)
        assert fit.diagnostics["gap"].max() < 1e-9
        assert excess(masks, outputs, fit.weight, penalty) < 1e-6
    rows = homotopy.Rows(masks, outputs, v_masks)
    assert homotopy.choose(rows, v_outputs, count=50, ratio=1e-2, patience=50)[2].all()
    chosen = lasso(masks, outputs, v_masks, v_outputs)
    assert np.isfinite(chosen.weight).all() and chosen.diagnostics["gap"].max() < 1e-9


def test_copies_share_and_complements_oppose():
    masks, outputs, *_ = degenerate("copies and complements")
    weight = lasso(masks, outputs, penalty=0.02).weight
    assert (weight[:, :40] != 0).any()
    np.testing.assert_array_equal(weight[:, 80:120], weight[:, :40])
    np.testing.assert_array_equal(weight[:, 120:], -weight[:, :40])


def test_order_of_rows_examples_and_company_do_not_matter(monkeypatch):
    arrays = problem(t=40)
    fit = lasso(*arrays)
    generator = np.random.default_rng(2)
    rows, columns = generator.permutation(len(arrays[0])), generator.permutation(arrays[0].shape[1])
    moved = lasso(arrays[0][rows][:, columns], arrays[1][rows], arrays[2][:, columns], arrays[3])
    np.testing.assert_allclose(moved.weight, fit.weight[:, columns], atol=1e-8)
    alone = lasso(arrays[0], arrays[1][:, [33]], arrays[2], arrays[3][:, [33]])
    np.testing.assert_allclose(alone.weight[0], fit.weight[33], atol=1e-8)
    monkeypatch.setattr(homotopy, "MEMORY", 1)  # 32 at a time instead of all
    np.testing.assert_allclose(lasso(*arrays).weight, fit.weight, atol=1e-8)
    shifted = lasso(arrays[0], arrays[1] + 1000, arrays[2], arrays[3] + 1000)
    np.testing.assert_allclose(shifted.weight, fit.weight, atol=1e-8)
    np.testing.assert_allclose(shifted.bias, fit.bias + 1000, atol=1e-7)


def test_what_does_not_settle_is_swept(monkeypatch):
    """Give up on two targets in the choice and on all certificates: the answer stays."""
    arrays = problem(m=50, n=120, noise=1.0)
    fit = lasso(*arrays, penalties=20)
    choose, solve = homotopy.choose, homotopy.solve

    def gives_up(rows, outputs, **options):
        penalty, error, settled = choose(rows, outputs, **options)
        penalty[[1, 4]], error[[1, 4]], settled[[1, 4]] = torch.nan, torch.nan, False
        return penalty, error, settled

    def doubts(rows, penalty):
        weight, _ = solve(rows, penalty)
        return torch.zeros_like(weight), torch.ones_like(penalty)

    monkeypatch.setattr(homotopy, "choose", gives_up)
    monkeypatch.setattr(homotopy, "solve", doubts)
    swept = lasso(*arrays, penalties=20)
    np.testing.assert_allclose(swept.diagnostics["penalty"], fit.diagnostics["penalty"], rtol=1e-6)
    np.testing.assert_allclose(swept.weight, fit.weight, atol=1e-4)
    assert swept.diagnostics["gap"].max() < 1e-5


def test_bootstrap_is_that_of_refits():
    masks, outputs, *_ = problem(t=2)
    penalty = 0.03
    fit = lasso(masks, outputs, penalty=penalty, bootstrap=5, seed=3)
    generator = np.random.default_rng(3)
    refits = []
    for _ in range(5):
        rows = generator.integers(0, len(masks), len(masks))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refits.append(exactly(masks[rows], outputs[rows], np.full(2, penalty))[0])
    np.testing.assert_allclose(fit.standard_error, np.std(refits, axis=0, ddof=1), atol=1e-9)


def test_few_retrainings_only():
    assert homotopy.pays(226, 5000) and homotopy.pays(45, 3000) and homotopy.pays(1000, 50_000)
    assert not homotopy.pays(909, 5000) and not homotopy.pays(8000, 2000) and not homotopy.pays(60, 100)


@pytest.mark.parametrize("penalty", [0.0, -1.0, np.nan, np.inf])
def test_a_fixed_penalty_is_positive_and_finite(penalty):
    masks = np.random.default_rng(0).random((12, 40)) < 0.5
    with pytest.raises(InputError, match=r"penalty is .* positive and finite"):
        lasso(masks, np.ones((12, 2)), penalty=penalty)
