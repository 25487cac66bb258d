"""Rankings against their definitions; confident learning by hand and against cleanlab."""

import numpy as np
import pytest
import torch

import whence
from tests.applications import mislabelled as world
from whence.applications import mislabels_rankings as rank
from whence.applications.mislabels_confident import (
    cleanlab_ranking,
    confident_joint,
    confused_labels,
    suggested_labels,
    wrong_labels,
)
from whence.applications.mislabels_folds import folds
from whence.attribution import Attribution
from whence.errors import InputError
from whence.study import outputs
from whence.study.variants import with_targets
from whence.training import Dynamics

# --- From attributions ---


def test_self_influence_is_the_diagonal_in_the_order_of_the_training_examples():
    weight = np.arange(9.0).reshape(3, 3)
    scores = Attribution(weight, target_ids=["c", "a", "b"], train_ids=["a", "b", "c"])
    assert rank.self_influence(scores).tolist() == [3, 7, 2]
    loss = Attribution(-weight, target_ids=["c", "a", "b"], train_ids=["a", "b", "c"], output="loss")
    assert rank.self_influence(loss).tolist() == [3, 7, 2]
    with pytest.raises(InputError, match="self_targets"):
        rank.self_influence(Attribution(weight, target_ids=range(3), train_ids=range(1, 4)))
    with pytest.raises(InputError, match="vector output"):
        rank.self_influence(Attribution(np.zeros((3, 2, 3)), target_ids=range(3), train_ids=range(3)))


# --- From a bank ---


def test_folds_are_averages_over_the_retrainings_that_left_out_or_trained_on(tmp_path):
    bank = world.bank(tmp_path / "bank.zarr", rows=48)
    found = folds(bank)
    sample = bank.select(None, "logits")
    logits, labels = torch.as_tensor(sample.outputs), torch.as_tensor(world.GIVEN)
    margin = outputs.margin(logits, labels).numpy()
    chance = outputs.probability(logits, labels).numpy()
    everything = torch.softmax(logits, -1).numpy()
    for i in (0, 7, world.N - 1):
        out = ~sample.masks[:, i]
        assert found.left_out[i] == out.sum() and found.trained_on[i] == (~out).sum()
        assert found.out_margin[i] == pytest.approx(margin[out, i].mean(), rel=1e-4)
        assert found.in_margin[i] == pytest.approx(margin[~out, i].mean(), rel=1e-4)
        assert found.out_chance[i] == pytest.approx(chance[out, i].mean(), rel=1e-4)
        assert found.in_chance[i] == pytest.approx(chance[~out, i].mean(), rel=1e-4)
        assert found.probabilities[i] == pytest.approx(everything[out, i].mean(0), rel=1e-4)
    assert rank.memorisation(found) == pytest.approx(found.in_chance - found.out_chance)
    assert rank.memorisation(found).mean() > 0  # to be trained on helps
    assert found.probabilities.sum(1) == pytest.approx(np.ones(world.N))


def test_margins_alone_give_the_same_averages(tmp_path):
    logits = folds(world.bank(tmp_path / "logits.zarr"))
    margins = folds(world.bank(tmp_path / "margins.zarr", outputs=("margin",)))
    assert margins.out_margin == pytest.approx(logits.out_margin, abs=1e-4)
    assert margins.in_chance == pytest.approx(logits.in_chance, abs=1e-4)
    assert margins.probabilities is None


def test_banks_that_will_not_do(tmp_path):
    with pytest.raises(InputError, match="records loss"):
        folds(world.bank(tmp_path / "loss.zarr", outputs=("loss",)))
    other = with_targets(world.study(), world.HELD_OUT)
    with pytest.raises(InputError, match="60 targets are not its 90"):
        folds(whence.retrain(other, 12, to=tmp_path / "other.zarr", workers=0, progress=False))
    with pytest.raises(InputError, match="training examples were left out of none"):
        folds(world.bank(tmp_path / "short.zarr", rows=12, keep=0.95))


# --- From dynamics ---


def watched(margin, counts=None):
    margin = np.asarray(margin, np.float32)
    runs, _, n = margin.shape
    counts = np.ones((runs, n), bool) if counts is None else counts
    chance = 1 / (1 + np.exp(-margin))
    return Dynamics(margin, chance, np.full((n, 2), 0.5), counts, np.zeros(n, int), np.arange(n))


def test_aum_and_data_maps_are_means_over_epochs_and_runs_that_count():
    margin = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = watched(margin)
    assert rank.area_under_margin(found) == pytest.approx(-margin.mean((0, 1)), abs=1e-6)
    assert rank.data_map(found) == pytest.approx(1 - found.probability.mean((0, 1)), abs=1e-6)
    assert rank.variability(found) == pytest.approx(found.probability.std(1).mean(0), abs=1e-6)
    counts = np.ones((2, 5), bool)
    counts[0, 1] = False
    half = watched(margin, counts)
    assert rank.area_under_margin(half)[1] == pytest.approx(-margin[1, :, 1].mean(), abs=1e-6)
    assert rank.area_under_margin(half)[0] == pytest.approx(-margin[:, :, 0].mean(), abs=1e-6)
    assert rank.threshold_of(half) == pytest.approx(margin[0, :, 1].mean(), abs=1e-6)
    with pytest.raises(InputError, match="no threshold class"):
        rank.threshold_of(found)


# --- From probabilities ---

LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1], [0.0, 0.1, 0.9]]
)


def test_margins_of_probabilities_by_hand():
    assert rank.self_confidence(LABELS, PROBABILITIES) == pytest.approx([0.1, 0.4, 0.9, 0.3, 0.5, 0.1])
    assert rank.normalised_margin(LABELS, PROBABILITIES) == pytest.approx([-0.8, -0.3, 0.7, -0.5, -0.1, -0.8])
    assert rank.thresholds(LABELS, PROBABILITIES) == pytest.approx([1.6 / 3, 0.6, 0.9])
    expected = (0.8 - 0.6) - (0.1 - 1.6 / 3)
    assert rank.confident_margin(LABELS, PROBABILITIES)[2] == pytest.approx(expected)
    assert rank.thresholds(LABELS, np.eye(4)[LABELS])[3] == 1  # a class without examples


def test_the_confident_joint_by_hand():
    # thresholds 0.533, 0.6, 0.9: the first two count as 0, the third as 1, the fourth as 1, the fifth not at
    # all, the last as 2
    expected = [[2, 1, 0], [0, 2, 0], [0, 0, 1]]  # the row of class 1 is scaled from 1 to its 2 examples
    assert confident_joint(LABELS, PROBABILITIES) == pytest.approx(np.array(expected))
    assert confused_labels(LABELS, PROBABILITIES) == pytest.approx(1)
    assert suggested_labels(LABELS, PROBABILITIES).tolist() == [1, 1, 1, 0, 0, 1]


def noisy(n=600, classes=4, seed=0, signal=3):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    given = np.where(rng.random(n) < 0.15, rng.integers(0, classes, n), truth)
    logits = signal * np.eye(classes)[truth] + rng.normal(size=(n, classes))
    return given, truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_planted_noise_is_counted():
    given, truth, probabilities = noisy(4000)
    wrong = (given != truth).sum()
    assert confused_labels(given, probabilities) == pytest.approx(wrong, rel=0.1)
    assert wrong_labels(given, probabilities) == pytest.approx(wrong, rel=0.25)
    for count in (wrong_labels, confused_labels):
        assert count(truth, probabilities) < 0.02 * len(truth)


def test_a_weak_model_s_mistakes_are_hardly_taken_for_wrong_labels():
    given, truth, probabilities = noisy(6000, signal=2)
    wrong = (given != truth).sum()
    assert (probabilities.argmax(1) == truth).mean() < 0.85
    assert confused_labels(given, probabilities) > 1.5 * wrong
    assert wrong_labels(given, probabilities) == pytest.approx(wrong, rel=0.2)
    given, truth, probabilities = noisy(6000, signal=1.2)
    excess = [
        count(given, probabilities) / (given != truth).sum() for count in (wrong_labels, confused_labels)
    ]
    assert excess[0] < 1.6 < 3 < excess[1]


def test_the_number_of_wrong_labels_by_hand():
    """As suspicious as can be are 12 of 40 labels; the 28 others would be, turned round, and those 12 not."""
    truth = np.arange(40) % 2
    given = np.where(np.arange(40) < 12, 1 - truth, truth)
    found = wrong_labels(given, np.eye(2)[truth] * 0.8 + 0.1)
    assert found == pytest.approx(12)


def test_confident_learning_is_cleanlab_s():
    count = pytest.importorskip("cleanlab.count")
    given, _, probabilities = noisy()
    theirs = count.compute_confident_joint(given, probabilities, calibrate=True)
    assert confident_joint(given, probabilities) == pytest.approx(theirs, abs=1.0)  # it rounds
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(given, probabilities, method="self_confidence")
    assert rank.self_confidence(given, probabilities) == pytest.approx(1 - quality)
    quality = get_label_quality_scores(given, probabilities, method="normalized_margin")
    assert rank.normalised_margin(given, probabilities) == pytest.approx(1 - 2 * quality)
    found = cleanlab_ranking(given, probabilities)
    listed = found > 1
    assert 0 < listed.sum() < len(given) and found[listed].min() >= found[~listed].max()


def test_without_cleanlab_it_is_said_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(InputError, match="pip install 'whence\\[labels\\]'"):
        cleanlab_ranking(LABELS, PROBABILITIES)


# --- Together ---


def test_mean_ranks_know_no_amounts():
    first, second = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])
    assert rank.mean_rank([first, second]) == pytest.approx(np.full(4, 2.5 / 4))
    assert rank.mean_rank([first, np.exp(first)]) == pytest.approx(np.arange(1, 5) / 4)
