"""Banzhaf and leave-one-out against games small enough to write out."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import whence
from tests.training.studies import study as tiny
from whence import Subsets, methods
from whence.errors import InputError
from whence.methods.banzhaf import by_mask
from whence.methods.leave_one_out import leave_one_out

N = 5


def game(mask):
    """Two targets; not linear."""
    s = mask.astype(float)
    return np.array([s @ np.arange(N) + 3 * s[0] * s[1], s[2] * s[3] - s[4]])


def bank_of(masks, outputs, design="bernoulli", seeds=None):
    half = len(masks) // 2
    parts = {"train": slice(half), "validation": slice(half, None)}

    def select(part=None, output=None):
        rows = parts.get(part, slice(None))
        return SimpleNamespace(
            masks=masks[rows], outputs=outputs[rows], seed=None if seeds is None else seeds[rows]
        )

    subsets = SimpleNamespace(keep=0.5, design=design)
    return SimpleNamespace(
        select=select, train_ids=np.arange(masks.shape[1]), target_ids=np.arange(outputs.shape[1]),
        study_fingerprint="f", outputs=("margin",), plan=SimpleNamespace(subsets=subsets),
    )  # fmt: skip


ALL = np.array(list(itertools.product([False, True], repeat=N)))
OUTPUTS = np.array([game(mask) for mask in ALL])
EXACT = np.array([
    np.mean([game(mask) - game(mask & (np.arange(N) != j)) for mask in ALL if mask[j]], axis=0)
    for j in range(N)
]).T  # fmt: skip


def test_banzhaf_of_all_subsets_is_the_definition():
    scores = methods.Banzhaf().attribute(bank_of(ALL, OUTPUTS))
    np.testing.assert_allclose(scores.weight, EXACT, atol=1e-6)
    assert scores.provenance["values"] == "absolute" and scores.standard_error.shape == (2, N)
    np.testing.assert_allclose(scores.predict(ALL).mean(0), OUTPUTS.mean(0), rtol=1e-6)


def test_subsets_of_one_size_shift_linear_values_by_their_mean():
    masks = ALL[ALL.sum(1) == 2]
    truth = np.array([[1.0, 2, -1, 0.5, 4]])
    outputs = masks @ truth.T + 7
    bank = bank_of(masks, outputs, "uniform")
    scores = methods.Banzhaf().attribute(bank)
    assert scores.provenance["values"] == "up to one number per target"
    shift = scores.weight - truth * N / (N - 1)  # w_j - mean of the others
    np.testing.assert_allclose(shift, np.full((1, N), -truth.sum() / (N - 1)), atol=1e-5)
    restored = methods.Banzhaf(mean=(7 + truth.sum(), 7)).attribute(bank)
    np.testing.assert_allclose(restored.weight.mean(1), truth.mean(1), atol=1e-6)


def test_repeats_of_a_subset_count_once():
    masks = np.repeat(ALL, 3, axis=0)
    noise = np.random.default_rng(0).standard_normal((len(ALL), 3, 2))
    noise -= noise.mean(1, keepdims=True)
    repeated = (OUTPUTS[:, None] + noise).reshape(-1, 2)
    once, thrice = (
        methods.Banzhaf().attribute(bank_of(m, y)) for m, y in ((ALL, OUTPUTS), (masks, repeated))
    )
    np.testing.assert_allclose(thrice.weight, once.weight, atol=1e-6)
    np.testing.assert_allclose(thrice.standard_error, once.standard_error, atol=1e-6)
    found, means = by_mask(masks, repeated)
    np.testing.assert_array_equal(found, ALL)
    np.testing.assert_allclose(means, OUTPUTS, atol=1e-12)
    with pytest.raises(InputError, match="3 different subsets"):
        methods.Banzhaf().attribute(bank_of(masks[:9], repeated[:9]))


def test_leave_one_out_is_a_subtraction():
    masks = np.repeat(np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1]], bool), 2, axis=0)
    seeds = np.array([0, 1] * 3)
    outputs = np.arange(12.0).reshape(6, 2) ** 2
    weight, error, bias = leave_one_out(masks, seeds, outputs)
    change = outputs[:2] - outputs[2:4]
    np.testing.assert_allclose(weight[:, 0], change.mean(0))
    np.testing.assert_allclose(error[:, 0], change.std(0, ddof=1) / np.sqrt(2))
    assert (weight[:, 2] == 0).all() and np.isinf(error[:, 2]).all()
    np.testing.assert_allclose(bias + weight.sum(1), outputs[:2].mean(0))
    # with other seeds it compares means
    weight, error, _ = leave_one_out(masks, np.arange(6), outputs)
    np.testing.assert_allclose(weight[:, 1], outputs[:2].mean(0) - outputs[4:].mean(0))
    welch = np.sqrt((outputs[:2].var(0, ddof=1) + outputs[4:].var(0, ddof=1)) / 2)
    np.testing.assert_allclose(error[:, 1], welch)


def test_leave_one_out_of_a_study_and_of_its_bank_agree(tmp_path):
    study = tiny(epochs=1)
    chosen = [3, 0]
    scores = methods.LeaveOneOut(examples=chosen, first_seed=7).attribute(study)
    assert np.flatnonzero(scores.weight.any(0)).tolist() == [0, 3] and not scores.calibrated
    subsets = Subsets.leaving_out(study.n, [[], *([i] for i in chosen)])
    bank = whence.retrain(
        study, 3, subsets=subsets, to=tmp_path / "b.zarr", training_seed=7, seeds=1, held_out_seeds=1,
        workers=0, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(
        methods.LeaveOneOut().attribute(bank).weight, scores.weight, rtol=1e-5, atol=1e-6
    )


def test_what_leave_one_out_needs():
    bank = bank_of(ALL, OUTPUTS)
    with pytest.raises(InputError, match="retrainings without one example"):
        methods.LeaveOneOut().attribute(bank)
    with pytest.raises(InputError, match="no model of the whole"):
        leave_one_out(ALL[:3], np.arange(3), OUTPUTS[:3])
    with pytest.raises(InputError, match="examples names 99"):
        methods.LeaveOneOut(examples=[99]).attribute(tiny())
    with pytest.raises(InputError, match="seeds is 0"):
        methods.LeaveOneOut(seeds=0)
