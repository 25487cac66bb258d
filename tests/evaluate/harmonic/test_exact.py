"""Identities by enumeration: a ridge regression trained on all 2^10 subsets, no Monte Carlo."""

import numpy as np
import pytest

from tests.evaluate.harmonic.learners import all_masks, fixed_masks, probabilities, projected, ridge_outputs
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.harmonic import (
    best_linear,
    coefficients,
    degree_weights,
    exact_group_effect,
    group_effect,
)
from whence.evaluate.harmonic.kernel import Whitening, eigenvalue
from whence.subsets import Subsets

N = 10
MASKS = all_masks(N)
OUTPUTS = ridge_outputs(MASKS)
KEEPS = pytest.mark.parametrize("keep", [0.3, 0.5])
close = {"rtol": 0, "atol": 1e-10}


def mean(values, keep):
    return probabilities(MASKS, keep) @ values


@KEEPS
def test_variance_by_degree_is_that_of_the_best_polynomials(keep):
    p = probabilities(MASKS, keep)
    weights = degree_weights(coefficients(OUTPUTS, keep))
    np.testing.assert_allclose(weights.sum(0), mean(OUTPUTS**2, keep), **close)
    np.testing.assert_allclose(weights[0], mean(OUTPUTS, keep) ** 2, **close)
    for degree in (1, 2):
        residual = mean((OUTPUTS - projected(MASKS, OUTPUTS, p, degree)) ** 2, keep)
        np.testing.assert_allclose(weights[degree + 1 :].sum(0), residual, **close)
    assert (weights[2:].sum(0) > 0.05 * weights[1:].sum(0)).all()  # there is something non-linear to find


@KEEPS
def test_the_best_linear_datamodel_is_the_average_effect(keep):
    weight, bias = best_linear(coefficients(OUTPUTS, keep), keep)
    fitted = projected(MASKS, OUTPUTS, probabilities(MASKS, keep), 1)
    np.testing.assert_allclose(MASKS @ weight.T + bias, fitted, **close)
    p = probabilities(MASKS, keep)[:, None]
    for i in range(N):
        kept, out = MASKS[:, i], ~MASKS[:, i]
        effect = (p * OUTPUTS)[kept].sum(0) / keep - (p * OUTPUTS)[out].sum(0) / (1 - keep)
        np.testing.assert_allclose(weight[:, i], effect, **close)


@KEEPS
@pytest.mark.parametrize("group", [[2], [0, 3, 4, 9], list(range(N))])
def test_group_effects(keep, group):
    bits = (1 << np.array(group)).sum()
    index = np.arange(1 << N)
    without, with_ = mean(OUTPUTS[index & ~bits], keep), mean(OUTPUTS[index | bits], keep)
    truth = {
        "deletion": without - mean(OUTPUTS, keep),
        "addition": with_ - mean(OUTPUTS, keep),
        "inclusion": with_ - without,
    }
    c = coefficients(OUTPUTS, keep)
    linear = np.zeros_like(c)
    linear[1 << np.arange(N)] = c[1 << np.arange(N)]
    weight, bias = best_linear(c, keep)
    datamodel = Attribution(weight, bias=bias, calibrated=True, keep=keep)
    ids = [datamodel.train_ids[i] for i in group]
    factor = {"deletion": -keep, "addition": 1 - keep, "inclusion": 1.0}
    for contrast, expected in truth.items():
        np.testing.assert_allclose(exact_group_effect(c, group, keep, contrast), expected, **close)
        predicted = group_effect(datamodel, [ids], contrast)[:, 0]
        np.testing.assert_allclose(predicted, factor[contrast] * weight[:, group].sum(1), rtol=1e-6)
        # of an output that is linear, the datamodel's group effect is the whole of it
        np.testing.assert_allclose(predicted, exact_group_effect(linear, group, keep, contrast), rtol=1e-6)
        if len(group) == 1:
            np.testing.assert_allclose(predicted, expected, rtol=1e-6)


def test_at_one_half_inclusion_hides_pairs_and_deletion_shows_them():
    pair = (MASKS[:, 0] * MASKS[:, 1]).astype(float)  # an interaction and nothing else
    c = coefficients(pair, 0.5)
    weight, _ = best_linear(c, 0.5)
    assert exact_group_effect(c, [0, 1], 0.5, "inclusion") == pytest.approx(weight[:2].sum())
    assert exact_group_effect(c, [0, 1], 0.5, "deletion") == pytest.approx(-0.25)
    assert -0.5 * weight[:2].sum() == pytest.approx(-0.5)


SIZE = 4
SLICE = fixed_masks(8, SIZE)
SLICED = ridge_outputs(SLICE, seed=3)
EVEN = np.full(len(SLICE), 1 / len(SLICE))


def test_fixed_sizes_have_one_dimension_less():
    """E f f' (x . x') is the linear variance, with the kernel of n - 1 dimensions; weights are effects up to
    1 / n."""
    n = SLICE.shape[1]
    whitening = Whitening.of(Subsets.uniform(n, SIZE / n))
    assert whitening.dimension == n - 1
    kernel = sum(x @ x.T for x in whitening.blocks(SLICE))
    np.testing.assert_allclose((kernel**2).mean(), n - 1, **close)
    fitted = projected(SLICE, SLICED, EVEN, 1)
    linear = ((fitted - fitted.mean(0)) ** 2).mean(0)
    found = np.einsum("it,ij,jt->t", SLICED, kernel, SLICED) / len(SLICE) ** 2
    np.testing.assert_allclose(found, linear, **close)
    # weights of sum zero: the effect of an example is larger than its weight by n / (n - 1)
    centred = SLICE - SIZE / n
    weight = np.linalg.lstsq(centred, SLICED - SLICED.mean(0), rcond=None)[0]
    effect = [SLICED[SLICE[:, i]].mean(0) - SLICED[~SLICE[:, i]].mean(0) for i in range(n)]
    np.testing.assert_allclose(np.array(effect), weight * n / (n - 1), **close)


def test_covariances_of_swapped_pairs_are_dual_hahn_polynomials_of_the_degrees():
    n = SLICE.shape[1]
    levels = [projected(SLICE, SLICED, EVEN, degree) for degree in range(SIZE + 1)]
    parts = [((b - a) ** 2).mean(0) for a, b in zip([0 * SLICED, *levels], levels, strict=False)]
    swaps = SIZE - SLICE.astype(int) @ SLICE.T
    for j in range(SIZE + 1):
        rho = 1 - j * n / (SIZE * (n - SIZE))
        if rho < 0:
            continue
        first, second = np.nonzero(swaps == j)
        subsets = Subsets.correlated(n, 0.5, rho, fixed_size=True)
        expected = sum(eigenvalue(d, rho, subsets) * part for d, part in enumerate(parts))
        np.testing.assert_allclose((SLICED[first] * SLICED[second]).mean(0), expected, **close)
    coins = Subsets.correlated(n, 0.5, 0.3)
    assert [eigenvalue(d, 0.3, coins) for d in range(3)] == pytest.approx([1, 0.3, 0.09])


def test_bad_input():
    c = coefficients(np.arange(8.0), 0.5)
    datamodel = Attribution(np.ones((2, 3)), calibrated=True, keep=0.5)
    first = datamodel.train_ids[0]
    for call, words in (
        (lambda: coefficients(np.zeros(7), 0.5), "7 entries"),
        (lambda: coefficients(np.zeros(8), 1.0), "keep must lie"),
        (lambda: exact_group_effect(c, [3], 0.5), "positions run from 0 to 2"),
        (lambda: exact_group_effect(c, [1], 0.5, "removal"), "contrast is 'removal'"),
        (lambda: group_effect(datamodel, [[first]], keep=1.5), "keep must lie"),
        (lambda: group_effect(datamodel, [[first, first]]), "twice"),
        (lambda: group_effect(Attribution(np.ones((2, 3))), [[first]]), "not calibrated"),
    ):
        with pytest.raises(InputError, match=words):
            call()
