"""The linear solvers against scikit-learn, closed forms and their own optimality conditions."""

import itertools

import numpy as np
import pytest
import torch

from whence.errors import InputError
from whence.methods.regression import lasso, lasso_path, moments, ols, pooled, ridge
from whence.methods.regression.path import Design, largest_penalty, walk

linear_model = pytest.importorskip("sklearn.linear_model")


def problem(m=400, n=60, t=5, seed=0, keep=0.5, noise=0.5):
    """Fixed-size masks, outputs with a few large and many small effects, far from zero mean."""
    generator = np.random.default_rng(seed)
    masks = np.argsort(generator.random((m, n)), axis=1) < round(keep * n)
    effects = 0.02 * generator.standard_normal((n, t))
    effects[generator.integers(0, n, 6)] += generator.laplace(0, 0.3, (6, t))
    return masks, masks @ effects + 30 + noise * generator.standard_normal((m, t))


def objective(masks, outputs, weight, penalty, l1_ratio=1.0):
    """(t,) in float64, straight from the rows."""
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    smooth = np.square(y - s @ weight.T).sum(0) / (2 * len(s))
    return smooth + penalty * (
        l1_ratio * np.abs(weight).sum(1) + (1 - l1_ratio) / 2 * np.square(weight).sum(1)
    )


# --- moments ---


def test_moments_are_exact_and_pool():
    masks, outputs = problem()
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    whole = moments(masks, outputs)
    np.testing.assert_allclose(whole.gram, s.T @ s / len(s), atol=1e-15)
    np.testing.assert_allclose(whole.cross, y.T @ s / len(s), atol=1e-7)
    np.testing.assert_allclose(whole.variance, y.var(0), rtol=1e-12)
    parts = pooled(moments(masks[:150], outputs[:150]), moments(masks[150:], outputs[150:]))
    for name in ("gram", "cross", "variance", "mask_mean", "output_mean"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=2e-7, rtol=1e-12)


def test_counts_without_the_byte_product_are_the_same(monkeypatch):
    masks, outputs = problem()
    fast = moments(masks, outputs).gram
    monkeypatch.delattr(torch, "_int_mm")
    assert torch.equal(moments(masks, outputs).gram, fast)


# --- LASSO and elastic net ---


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_path_matches_scikit_learn(l1_ratio):
    masks, outputs = problem()
    penalty, weight, gap = lasso_path(moments(masks, outputs), penalties=20, l1_ratio=l1_ratio, tol=1e-7)
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    for target in range(outputs.shape[1]):
        _, theirs, _ = linear_model.enet_path(
            s, y[:, target], l1_ratio=l1_ratio, alphas=penalty[target], tol=1e-12, max_iter=100_000
        )
        for k in range(20):
            ours, best = (
                objective(masks, outputs[:, [target]], w[None], penalty[target, k], l1_ratio)[0]
                for w in (weight[target, k].astype(float), theirs[:, k])
            )
            assert ours <= best * (1 + 2e-6)
            assert ours - best <= gap[target, k] * y[:, target].var() / 2 + 1e-6 * best
        np.testing.assert_allclose(weight[target], theirs.T, atol=2e-3)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
def test_fixed_penalty_matches_scikit_learn_coefficients(l1_ratio):
    masks, outputs = problem()
    fit = lasso(masks, outputs, penalty=0.02, l1_ratio=l1_ratio)
    for target in range(outputs.shape[1]):
        theirs = linear_model.ElasticNet(alpha=0.02, l1_ratio=l1_ratio, tol=1e-12, max_iter=100_000)
        theirs.fit(masks.astype(float), outputs[:, target])
        np.testing.assert_allclose(fit.weight[target], theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(fit.bias[target], theirs.intercept_, atol=1e-5)
    assert fit.diagnostics["gap"].max() < 1e-6
    np.testing.assert_array_equal(fit.diagnostics["nonzeros"], (fit.weight != 0).sum(1))


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_optimality_conditions(l1_ratio):
    masks, outputs = problem()
    penalty = 0.01
    weight = lasso(masks, outputs, penalty=penalty, l1_ratio=l1_ratio).weight
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    slope = ((y - s @ weight.T).T @ s) / len(s) - penalty * (1 - l1_ratio) * weight
    active = weight != 0
    np.testing.assert_allclose(slope[active], penalty * l1_ratio * np.sign(weight[active]), atol=1e-6)
    assert np.abs(slope[~active]).max() <= penalty * l1_ratio + 1e-6


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_largest_penalty_is_exact(l1_ratio):
    masks, outputs = problem()
    s, y = masks - masks.mean(0), outputs - outputs.mean(0)
    top = np.abs(y.T @ s / len(s)).max(1) / l1_ratio
    assert (lasso(masks, outputs, penalty=top * (1 + 1e-5), l1_ratio=l1_ratio).weight == 0).all()
    below = lasso(masks, outputs, penalty=top * (1 - 1e-3), l1_ratio=l1_ratio)
    np.testing.assert_array_equal(below.diagnostics["nonzeros"], 1)
    penalty, weight, _ = lasso_path(moments(masks, outputs), l1_ratio=l1_ratio, penalties=7, ratio=0.1)
    np.testing.assert_allclose(penalty, top[:, None] * 0.1 ** (np.arange(7) / 6), rtol=1e-6)
    assert (weight[:, 0] == 0).all() and (weight[:, 1] != 0).any(1).all()


def test_penalty_is_the_best_on_validation_and_weights_are_refitted_on_both():
    masks, outputs = problem(m=300)
    v_masks, v_outputs = problem(m=100, seed=1)
    v_outputs = v_outputs - 30 + 31  # another mean: the bias has to come from the training rows
    fit = lasso(masks, outputs, v_masks, v_outputs, early_stopping=False, penalties=30)
    penalty, weight, _ = lasso_path(moments(masks, outputs), penalties=30)
    for target in range(outputs.shape[1]):
        bias = outputs[:, target].mean() - weight[target] @ masks.mean(0)
        errors = np.square(v_outputs[:, [target]] - v_masks @ weight[target].T - bias).mean(0)
        best = errors.argmin()
        np.testing.assert_allclose(fit.diagnostics["penalty"][target], penalty[target, best], rtol=1e-6)
        np.testing.assert_allclose(fit.diagnostics["validation_error"][target], errors[best], rtol=1e-4)
    both = lasso(
        *map(np.concatenate, ((masks, v_masks), (outputs, v_outputs))), penalty=fit.diagnostics["penalty"]
    )
    np.testing.assert_allclose(fit.weight, both.weight, atol=5e-6)
    np.testing.assert_allclose(fit.bias, both.bias, atol=1e-4)


def test_bfloat16_products_reach_the_same_objective():
    masks, outputs = problem(m=600, n=150)
    train = moments(masks, outputs)
    objectives = {}
    for low in (False, True):
        values = []
        design = Design(train, bfloat16=low)
        assert bool(design.low) == low
        walk(
            design,
            train,
            lambda point, gap: values.append(point.weight().numpy() if point.k % 7 == 6 else None),
        )
        objectives[low] = np.array(
            [
                objective(masks, outputs, weight, largest_penalty(train).numpy() * 1e-2 ** (k / 49))
                for k, weight in enumerate(values)
                if weight is not None
            ]
        )
    np.testing.assert_allclose(objectives[True], objectives[False], rtol=2e-6)


def test_early_stopping_finds_the_same_minimum_here():
    masks, outputs = problem()
    validation = problem(m=200, seed=1)
    early, full = (lasso(masks, outputs, *validation, early_stopping=stop) for stop in (True, False))
    np.testing.assert_allclose(early.diagnostics["penalty"], full.diagnostics["penalty"])
    np.testing.assert_allclose(early.weight, full.weight, atol=1e-7)


@pytest.mark.parametrize("solver", [lasso, ridge])
def test_order_of_rows_and_company_of_targets_do_not_matter(solver):
    masks, outputs = problem()
    validation = problem(m=200, seed=1)
    fit = solver(masks, outputs, *validation)
    shuffled = np.random.default_rng(2).permutation(len(masks))
    np.testing.assert_allclose(
        solver(masks[shuffled], outputs[shuffled], *validation).weight, fit.weight, atol=1e-6
    )
    alone = solver(masks, outputs[:, [2]], validation[0], validation[1][:, [2]])
    np.testing.assert_allclose(alone.weight[0], fit.weight[2], atol=1e-6)
    moved = solver(masks, outputs + 1000, validation[0], validation[1] + 1000)
    np.testing.assert_allclose(moved.weight, fit.weight, atol=1e-5)
    np.testing.assert_allclose(moved.bias, fit.bias + 1000, atol=1e-4)


def test_more_targets_than_are_solved_together():
    masks, outputs = problem(t=300, m=200, n=20)
    fit = lasso(masks, outputs, penalty=0.05)
    np.testing.assert_allclose(
        fit.weight[290], lasso(masks, outputs[:, [290]], penalty=0.05).weight[0], atol=1e-6
    )


def test_ill_conditioned_designs_converge():
    """Groups of equal columns, and fewer retrainings than examples."""
    generator = np.random.default_rng(0)
    masks = np.repeat(generator.random((60, 30)) < 0.5, 5, axis=1)
    outputs = masks @ generator.standard_normal((150, 3)) * 0.1 + 0.1 * generator.standard_normal((60, 3))
    fit = lasso(masks, outputs, penalty=0.005)
    for target in range(3):
        theirs = linear_model.Lasso(alpha=0.005, tol=1e-10, max_iter=100_000).fit(
            masks * 1.0, outputs[:, target]
        )
        ours, best = (
            objective(masks, outputs[:, [target]], w[None], 0.005)[0]
            for w in (fit.weight[target], theirs.coef_)
        )
        assert ours <= best * (1 + 1e-6)
    assert fit.diagnostics["gap"].max() < 1e-4


@pytest.mark.parametrize("solver", [lasso, ridge])
def test_constant_columns_and_constant_targets_have_zero_weight(solver):
    masks, outputs = problem()
    masks[:, 3], masks[:, 4] = True, False
    outputs[:, 1] = 0.1
    fit = solver(masks, outputs, masks[:50], outputs[:50])
    assert np.isfinite(fit.weight).all()
    np.testing.assert_allclose(fit.weight[:, [3, 4]], 0, atol=1e-12)
    np.testing.assert_allclose(fit.weight[1], 0, atol=1e-9)
    np.testing.assert_allclose(fit.bias[1], 0.1, atol=1e-6)


def test_bootstrap_error_is_that_of_the_active_weight():
    masks, outputs = problem(m=600, n=20, t=2)
    error = lasso(masks, outputs, penalty=1e-4, bootstrap=60, seed=1).standard_error
    closed = ols(masks, outputs).standard_error  # at next to no penalty, LASSO is least squares
    assert 0.7 < np.median(error / closed) < 1.3
    np.testing.assert_array_equal(
        error, lasso(masks, outputs, penalty=1e-4, bootstrap=60, seed=1).standard_error
    )


# --- ridge and least squares ---


@pytest.mark.parametrize(("m", "n"), [(300, 40), (40, 120)])
def test_ridge_is_the_closed_form(m, n):
    masks, outputs = problem(m=m, n=n)
    penalty = np.linspace(0.01, 0.3, outputs.shape[1])
    fit = ridge(masks, outputs, penalty=penalty)
    for target, value in enumerate(penalty):
        theirs = linear_model.Ridge(alpha=value * m, solver="cholesky").fit(masks * 1.0, outputs[:, target])
        np.testing.assert_allclose(fit.weight[target], theirs.coef_, atol=1e-9)
        np.testing.assert_allclose(fit.bias[target], theirs.intercept_, atol=1e-8)
        centred = masks - masks.mean(0)
        hat = centred @ np.linalg.solve(centred.T @ centred + value * m * np.eye(n), centred.T)
        np.testing.assert_allclose(fit.diagnostics["degrees_of_freedom"][target], np.trace(hat), rtol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(80, 30), (30, 50)])
def test_leave_one_out_errors_are_those_of_refits(m, n):
    masks, outputs = problem(m=m, n=n, t=2)
    fit = ridge(masks, outputs, choose="loo", penalties=9)
    for target in range(2):
        value = fit.diagnostics["penalty"][target]
        errors = []
        for row in range(m):
            rest = np.arange(m) != row
            # The penalty counts rows: m l stays as it is when a row leaves.
            one = ridge(masks[rest], outputs[rest][:, [target]], penalty=value * m / (m - 1))
            errors.append((outputs[row, target] - one.predict(masks[[row]])[0, 0]) ** 2)
        np.testing.assert_allclose(fit.diagnostics["validation_error"][target], np.mean(errors), rtol=1e-6)


def test_ridge_penalty_by_validation_and_by_gcv():
    masks, outputs = problem(m=300)
    validation = problem(m=300, seed=1)
    chosen = ridge(masks, outputs, *validation, refit=False)
    for factor in (0.2, 5):
        other = ridge(masks, outputs, penalty=chosen.diagnostics["penalty"] * factor)
        error = np.square(other.predict(validation[0]) - validation[1]).mean(0)
        assert (error >= chosen.diagnostics["validation_error"] * (1 - 1e-5)).all()
    gcv, loo = (ridge(masks, outputs, choose=how).diagnostics["penalty"] for how in ("gcv", "loo"))
    assert (np.abs(np.log(gcv / loo)) < 1.5).all()


@pytest.mark.parametrize("n", [3, 7])
def test_least_squares_on_all_subsets_is_the_average_leave_one_out_effect(n):
    """The datamodel of an exhaustively enumerated closed-form learner: ridge regression of 1-d labels."""
    generator = np.random.default_rng(0)
    x, y, targets = (
        generator.standard_normal((n, 3)),
        generator.standard_normal(n),
        generator.standard_normal((4, 3)),
    )
    masks = np.array(list(itertools.product([False, True], repeat=n)))
    outputs = np.array(
        [targets @ np.linalg.solve(x[s].T @ x[s] + 0.3 * np.eye(3), x[s].T @ y[s]) for s in masks]
    )  # (2^n, 4)
    fit = ols(masks, outputs)
    value = {s.tobytes(): f for s, f in zip(masks, outputs, strict=True)}
    for j in range(n):
        effects = []
        for s in masks[masks[:, j]]:
            without = s.copy()
            without[j] = False
            effects.append(value[s.tobytes()] - value[without.tobytes()])
        np.testing.assert_allclose(fit.weight[:, j], np.mean(effects, axis=0), atol=1e-10)


def test_standard_errors_cover():
    """Least squares: the spread of estimates over fresh noise is what one fit says it is."""
    masks, _ = problem(m=120, n=10)
    masks[::2, 0] ^= True  # sizes vary, so that every weight is determined
    generator = np.random.default_rng(5)
    truth = generator.standard_normal(10)
    outputs = (masks @ truth)[:, None] + 0.7 * generator.standard_normal(
        (120, 400)
    )  # 400 targets = 400 repeats
    fit = ols(masks, outputs)
    np.testing.assert_allclose(fit.standard_error.mean(0), fit.weight.std(0), rtol=0.15)
    np.testing.assert_allclose(fit.weight.mean(0), truth, atol=4 * fit.weight.std(0).max() / 20)


# --- bad input ---


@pytest.mark.parametrize("solver", [lasso, ridge, ols])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda s, y: (s, np.where(np.arange(len(y))[:, None] == 3, np.nan, y)),
            "non-finite values in 1 of 400 rows",
        ),
        (lambda s, y: (s[:-1], y), "do not fit together"),
        (lambda s, y: (s * 2, y), "other than 0 and 1"),
        (lambda s, y: (s[:1], y[:1]), "at least 2"),
    ],
)
def test_bad_rows_get_one_sentence(solver, change, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        solver(*change(*problem()))
    assert "\n" not in str(caught.value)


def test_other_refusals():
    masks, outputs = problem()
    with pytest.raises(InputError, match="least squares on 60 examples needs 62"):
        ols(masks[:50], outputs[:50])
    with pytest.raises(InputError, match="validation_masks and validation_outputs are missing"):
        lasso(masks, outputs)
    with pytest.raises(InputError, match="must be the same"):
        lasso(masks, outputs, masks[:, :-1], outputs)
    with pytest.raises(InputError, match="l1_ratio is 0"):
        lasso(masks, outputs, penalty=0.1, l1_ratio=0)
    with pytest.raises(InputError, match="the same in every row"):
        ridge(np.ones_like(masks), outputs)
