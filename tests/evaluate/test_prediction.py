"""Prediction error: closed forms, the share of explainable variance, refusal without a scale."""

import json

import numpy as np
import pytest

from tests.evaluate.banks import LinearBank
from whence.errors import InputError
from whence.evaluate import prediction_error


def test_matches_its_definition():
    bank = LinearBank()
    guess = bank.guess(0.3)
    result = prediction_error(guess, bank, bootstrap=0)
    groups = bank.by_mask("held_out", "margin")
    means, predicted = groups.outputs.mean(1), guess.predict(groups.masks)
    error, variance = (means - predicted) ** 2, means.var(0, ddof=1)
    assert result.mse == pytest.approx(error.mean(), rel=1e-5) and result.interval is None
    np.testing.assert_allclose(result.r2_per_target, 1 - error.mean(0) / variance, rtol=1e-4)
    assert result.r2 == pytest.approx(1 - error.mean() / variance.mean(), rel=1e-4)
    noise = groups.outputs.var(1, ddof=1).mean() / 2
    assert result.noise == pytest.approx(noise, rel=1e-5)
    assert result.explained == pytest.approx(
        (variance.mean() - error.mean()) / (variance.mean() - noise), rel=1e-4
    )


def test_the_truth_explains_all_that_can_be_explained():
    results = [prediction_error(b.truth(), b, bootstrap=200) for b in (LinearBank(seed=s) for s in range(20))]
    assert np.mean([r.explained for r in results]) == pytest.approx(1, abs=0.02)
    assert np.mean([r.explained_interval[0] <= 1 <= r.explained_interval[1] for r in results]) >= 0.8
    assert np.mean([r.mse - r.noise for r in results]) == pytest.approx(0, abs=0.02)


def test_a_shift_or_scale_costs_here():
    bank = LinearBank(noise=0.1)
    assert prediction_error(bank.truth(), bank).r2 > 0.9
    assert prediction_error(bank.truth(bias=np.full(30, 5.0)), bank).r2 < 0
    assert prediction_error(bank.truth(weight=10 * bank.weight), bank).r2 < 0


def test_one_seed_and_no_signal_are_said_in_words():
    bank = LinearBank(seeds=1)
    result = prediction_error(bank.truth(), bank)
    assert result.explained is None and result.noise is None and "2 seeds a mask" in str(result)
    bank = LinearBank()
    bank.by_mask("held_out", "margin").outputs[:] = 1.5
    flat = prediction_error(bank.truth(weight=0 * bank.weight, bias=np.full(30, 1.5)), bank)
    assert flat.mse == 0 and np.isnan(flat.r2_per_target).all() and flat.explained is None
    assert json.loads(json.dumps(flat.to_dict()))["r2_per_target"][0] is None


def test_prints_in_two_lines_and_vectors_work():
    bank = LinearBank(vector=3, targets=6)
    result = prediction_error(bank.truth(), bank)
    assert result.mse_per_target.shape == (6,)
    assert len(str(result).splitlines()) == 2 and "60 held-out masks x 2 seeds" in str(result)


def test_refuses_what_has_no_scale():
    bank = LinearBank()
    with pytest.raises(InputError, match="not calibrated"):
        prediction_error(bank.truth(calibrated=False), bank)
