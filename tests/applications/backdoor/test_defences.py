"""The baselines against closed forms on features that are known, and on a poisoned study."""

import numpy as np
import pytest

from tests.applications.backdoor.attacked import study
from whence.applications.backdoor import (
    Patch,
    activation_clustering,
    at_random,
    baselines,
    losses,
    poison,
    self_influence,
    spectral_signatures,
    whitened_outliers,
)
from whence.applications.backdoor.defences import _central, _entropy, _silhouette, _two_means, _white
from whence.attribution import Attribution
from whence.errors import InputError

RNG = np.random.default_rng(0)


def auroc(score, inside):
    rank = np.argsort(np.argsort(score))
    p = inside.sum()
    return (rank[inside].sum() - p * (p - 1) / 2) / (p * (len(score) - p))


def planted(shift, n=200, p=20, d=12, spread=None):
    """Features of two classes; `p` examples of the first are moved by `shift` along the last axis."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2 * n, d)) * (np.ones(d) if spread is None else spread)
    labels = np.arange(2 * n) // n
    inside = np.arange(2 * n) < p
    x[inside, -1] += shift
    return x + 5 * labels[:, None], labels, inside


def test_spectral_signatures_are_squared_projections():
    x, labels, _ = planted(3.0)
    score = spectral_signatures(x, labels)
    for label in (0, 1):
        centred = x[labels == label] - x[labels == label].mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        assert np.allclose(score[labels == label], (centred @ vectors[:, -1]) ** 2)
        assert score[labels == label].sum() == pytest.approx(values[-1])
    # two points on a line: both are equally far from their mean
    two = np.array([[0.0, 0], [3, 4]] * 3)
    assert np.allclose(spectral_signatures(two, np.zeros(6, int)), 2.5**2)


def test_scores_are_found_class_by_class():
    x, labels, _ = planted(8.0)
    first = labels == 0  # the other class has no clusters, so 2-means may split it in several ways
    order = np.r_[RNG.permutation(np.flatnonzero(~first)), RNG.permutation(np.flatnonzero(first))]
    for score in (spectral_signatures, whitened_outliers, activation_clustering):
        whole = score(x, labels)
        mixed = np.empty(len(x))
        mixed[order] = score(x[order], labels[order])
        assert np.allclose(mixed[first], whole[first], atol=1e-6)
        assert np.allclose(score(x[first] - 7, labels[first]), whole[first], atol=1e-6)


def test_rotations_change_nothing():
    x, labels, _ = planted(8.0)
    x, labels = x[labels == 0], labels[labels == 0]
    q, _ = np.linalg.qr(RNG.normal(size=(12, 12)))
    for score in (spectral_signatures, whitened_outliers, activation_clustering):
        assert np.allclose(score(x @ q, labels), score(x, labels), atol=1e-6)


def test_a_strong_plant_is_found_by_all():
    x, labels, inside = planted(8.0)
    assert auroc(spectral_signatures(x, labels), inside) > 0.95
    assert auroc(activation_clustering(x, labels), inside) > 0.99
    assert auroc(whitened_outliers(x, labels, poisoned=20), inside) > 0.95


def test_whitening_finds_what_a_direction_of_large_variance_hides():
    spread = np.ones(12)
    spread[0] = 12.0
    x, labels, inside = planted(5.0, spread=spread)
    assert auroc(spectral_signatures(x, labels), inside) < 0.75
    assert auroc(whitened_outliers(x, labels, poisoned=20), inside) > 0.95
    # whatever the units of the features are
    scaled = whitened_outliers(x * np.r_[3.0, np.ones(11)], labels, poisoned=20)
    assert auroc(scaled, inside) > 0.95


def test_without_outliers_the_score_is_the_distance():
    """All directions vary alike, so Q is the identity and the score the mean square of whitened features."""
    x = np.repeat(np.concatenate([np.eye(6), -np.eye(6)]), 3, axis=0)
    score, mean = _entropy(_white(x, np.arange(36)), 4.0)
    assert np.allclose(score, 1) and mean == pytest.approx(1)


def test_quantum_entropy_weighs_directions_by_their_excess():
    white = np.diag([3.0, 2.0, 1.0]) * 3**0.5  # S = diag(9, 4, 1)
    score, mean = _entropy(white, 4.0)
    q = np.exp(4 * np.array([8.0, 3.0, 0.0]) / 8)
    assert np.allclose(score, np.diag(white) ** 2 * q / q.sum())
    assert mean == pytest.approx((np.array([9, 4, 1]) * q).sum() / q.sum())


def test_trimming_finds_the_central_part():
    z = np.r_[RNG.normal(size=(40, 2)), 50 + RNG.normal(size=(6, 2))]
    assert _central(z, 6).tolist() == list(range(40))
    white = _white(z, np.arange(40))
    assert np.allclose(np.cov(white[:40].T, ddof=0), np.eye(2)) and np.allclose(white[:40].mean(0), 0)


def test_two_means_and_the_silhouette():
    z = np.array([[0.0], [0.2], [0.4], [10.0], [10.2]])
    member, centres = _two_means(z, np.random.default_rng(0))
    assert member.sum() in (2, 3) and np.array_equal(member[:3], [member[0]] * 3) and member[3] != member[0]
    assert sorted(centres[:, 0].round(3)) == [0.2, 10.1]
    metrics = pytest.importorskip("sklearn.metrics")
    assert _silhouette(z, member) == pytest.approx(metrics.silhouette_score(z, member))
    lone = np.arange(5) == 4
    assert _silhouette(z, lone) == pytest.approx(metrics.silhouette_score(z, lone))


def test_classes_that_say_nothing_score_nothing():
    x = np.r_[RNG.normal(size=(4, 3)), np.ones((9, 3)), RNG.normal(size=(20, 3))]
    labels = np.r_[np.zeros(4, int), np.ones(9, int), np.full(20, 2)]
    for score in (spectral_signatures, whitened_outliers, activation_clustering):
        found = score(x, labels)
        assert not found[:13].any() and np.isfinite(found).all() and found[13:].any()


def test_self_influence_is_the_diagonal_in_the_sense_of_helping():
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    square = Attribution(w, target_ids=np.arange(4), train_ids=np.arange(4), output="margin")
    assert np.allclose(self_influence(square), np.diag(w))
    loss = Attribution(w, target_ids=np.arange(4), train_ids=np.arange(4), output="loss")
    assert np.allclose(self_influence(loss), -np.diag(w))
    with pytest.raises(InputError, match="train x train"):
        self_influence(Attribution(w, target_ids=np.arange(4)[::-1], train_ids=np.arange(4), output="margin"))


def test_all_at_once_on_a_poisoned_study():
    attack = poison(study(), Patch(), 0, count=16, seed=0)
    n = attack.study.n
    ids = attack.study.train_ids
    square = Attribution(np.eye(n, dtype=np.float32), target_ids=ids, train_ids=ids, output="margin")
    found = baselines(attack.study, square, poisoned=16)
    assert set(found) == {
        "spectral signatures", "activation clustering", "SPECTRE", "loss", "random", "self-influence",
    }  # fmt: skip
    assert all(score.shape == (n,) and np.isfinite(score).all() for score in found.values())
    assert max(auroc(score, attack.is_poisoned) for score in found.values()) > 0.8
    again = baselines(attack.study, poisoned=16)
    assert "self-influence" not in again and all(np.array_equal(again[name], found[name]) for name in again)
    assert np.array_equal(losses(attack.study), found["loss"]) and len(np.unique(at_random(9))) == 9


@pytest.mark.parametrize(
    ("features", "labels", "sentence"),
    [
        (np.ones((5, 2, 2)), np.zeros(5, int), r"\(5, 2, 2\)"),
        (np.ones((5, 2)), np.zeros(4, int), r"\(4,\)"),
        (np.full((5, 2), np.nan), np.zeros(5, int), "NaN"),
    ],
)
def test_bad_input(features, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        spectral_signatures(features, labels)
