"""A planted group is found, clean weights are not accused, and removal is measured on learners in closed
form."""

import json

import numpy as np
import pytest

import whence
from whence.applications import backdoor
from whence.attribution import Attribution
from whence.errors import InputError
from whence.study.variants import self_targets, with_targets

CLASSES, EACH = 6, 60
N = CLASSES * EACH
LABELS = np.arange(N) % CLASSES
INSIDE = np.flatnonzero(LABELS == 2)[5:25]
IDS = np.array([f"row {i}" for i in range(N)])


def weights(shift=2.0, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(N, N)) + 0.3 * rng.normal(size=(N, 1)) + 0.3 * rng.normal(size=N)
    w += 0.5 * (LABELS[:, None] == LABELS)  # classes hold together
    w[np.ix_(INSIDE, INSIDE)] += shift
    w[np.arange(N), np.arange(N)] += 10
    return w.astype(np.float32)


def square(w, **options):
    return Attribution(w, **{"target_ids": IDS, "train_ids": IDS, **options})


def find(scores, **options):
    return backdoor(scores, **{"labels": LABELS, "restarts": 8, **options})


@pytest.fixture(scope="module")
def found():
    return find(square(weights()))


def test_a_planted_group_is_found(found):
    assert found.detected and found.p_value < 0.01 and found.verified is None
    assert sorted(found.members) == INSIDE.tolist() and set(found.member_ids) == set(IDS[INSIDE])
    first = found.groups[0]
    assert first.label == 2 and first.size == 20 and first.effect == pytest.approx(2, abs=0.2)
    assert first.p_value == found.p_value and all(g.p_value > 0.05 for g in found.groups[1:])
    rank = np.argsort(-found.score)
    assert set(rank[:20]) == set(INSIDE) and found.score.shape == (N,)
    assert "strong coherent group" in found.statement and "20 training examples of class 2" in found.statement
    assert found.examples[0].indices == found.members.tolist() and "duplicates" in found.meaning
    json.dumps(found.to_dict(), allow_nan=False)
    assert "strong coherent group" in str(found)


def test_clean_weights_are_not_accused():
    alarms = [find(square(weights(0, seed)), restarts=4).detected for seed in range(20)]
    assert sum(alarms) <= 2


def test_a_negative_answer_says_what_it_rules_out():
    clean = find(square(weights(0)))
    assert not clean.detected and len(clean.members) == 0 and clean.member_ids == ()
    assert "Nothing found" in clean.statement and "would have been found" in clean.statement
    assert set(clean.detectable) == {10, 20}
    for size, total in clean.detectable.items():
        w, at = weights(0, 7), np.flatnonzero(LABELS == 4)[:size]
        w[np.ix_(at, at)] += 1.3 * total / (size - 1)
        again = find(square(w))
        assert again.detected and len(np.intersect1d(again.members, at)) > 0.8 * size


def test_what_is_ruled_out_is_the_effect_and_not_what_a_penalty_leaves_of_it():
    clean = find(square(weights(0)))
    shrunk = find(square(weights(0), diagnostics={"degrees_of_freedom": np.full(N, 0.25 * N)}))
    for size, total in clean.detectable.items():
        assert shrunk.detectable[size] == pytest.approx(4 * total)


def test_order_sign_and_rows_elsewhere_do_not_matter(found):
    order = np.random.default_rng(0).permutation(N)
    turned = square(weights()[order], target_ids=IDS[order])
    assert (find(turned).members == found.members).all()
    loss = square(-weights(), output="loss")
    assert (find(loss).members == found.members).all()


def test_without_labels_all_are_searched_at_once():
    w = weights(3.0)
    everything = backdoor(square(w - 0.5 * (LABELS[:, None] == LABELS)), restarts=8)
    assert everything.groups[0].label is None
    assert len(np.intersect1d(everything.groups[0].members, IDS[INSIDE])) >= 18


def learner(mask, seed):
    """Linear, the true weights a tenth of those above without their noise."""
    rng = np.random.default_rng(seed)
    true = np.zeros((N, N))
    true[np.ix_(INSIDE, INSIDE)] = 0.2
    return true @ mask + 0.3 * rng.normal() + 0.5 * rng.normal(size=N)


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    study = whence.Study.from_function(learner, n=N, targets=range(N), outputs=["margin"])
    to = tmp_path_factory.mktemp("banks") / "bank.zarr"
    bank = whence.retrain(study, 400, to=to, workers=0, progress=False)
    return study, bank, whence.methods.DifferenceOfMeans().attribute(bank)


def test_halves_and_removal(retrained):
    study, bank, scores = retrained
    found = backdoor(scores, study, bank=bank, labels=LABELS, restarts=8, retrainings=5, workers=0)
    assert found.detected and set(found.members) >= set(INSIDE[:18])
    check = found.groups[0].reproduced
    assert check.p_value < 1e-6 and check.interval[0] < 0.2 < check.interval[1]
    themselves, others = found.removal.changes
    assert themselves.count == found.removal.removed == len(found.members)
    assert themselves.change == pytest.approx(-0.2 * 20, abs=0.6) and abs(others.change) < 0.6
    random = found.removal.control[0]
    assert random.count == themselves.count and random.change > -2
    assert "random examples" in found.verified and "5 fresh retrainings" in found.verified
    with pytest.raises(InputError, match="group is 99"):
        found.verify(study, group=99)


def test_a_clean_bank(retrained):
    study, _, scores = retrained
    rest = np.setdiff1d(np.arange(N), INSIDE)
    part = Attribution(
        scores.weight[np.ix_(rest, rest)],
        target_ids=scores.target_ids[rest],
        train_ids=scores.train_ids[rest],
    )
    found = find(part, labels=LABELS[rest])
    assert not found.detected
    with pytest.raises(InputError, match="no group stands out"):
        found.verify(study)


def test_attack_success_before_and_after():
    """Nearest class means; the poison has a mark of its own and the label of class 0."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(4, 8))
    labels = np.arange(280) % 4
    x = centres[labels] + rng.normal(size=(280, 8))
    poison = np.flatnonzero(labels == 1)[:16]
    x, labels = np.c_[x, np.zeros(280)].astype(np.float32), labels.copy()
    x[poison, -1], labels[poison] = 25, 0
    x_new = np.c_[centres[labels] + rng.normal(size=(280, 8)), np.zeros(280)].astype(np.float32)

    def train(inputs, targets, seed):
        means = [inputs[targets == label].mean(0) for label in range(4)]
        return lambda batch: -sum_of_squares(batch, means)

    study = whence.Study.from_training_function(train, (x, labels), (x_new, labels))
    marked = x_new[labels == 2]
    marked[:, -1] = 25
    triggered = with_targets(study, (marked, np.zeros(len(marked), int)))
    true = np.zeros((280, 280), np.float32)
    true[np.ix_(poison, poison)] = 1
    noise = rng.normal(size=(280, 280)).astype(np.float32)
    own = self_targets(study)
    scores = Attribution(true * 3 + noise, target_ids=own.target_ids, train_ids=own.train_ids)
    found = backdoor(scores, own, labels=labels, restarts=8, triggered=triggered, retrainings=2, workers=0)
    assert found.detected and set(found.members) == set(poison)
    before, after = found.removal.attack["before"][0], found.removal.attack["after"][0]
    assert before > after and "the attack succeeds" in found.verified
    shared = {change.targets: change for change in found.removal.changes}
    assert set(shared) == {
        "the removed examples themselves",
        "other targets of their class",
        "targets of other classes",
    }
    tested = found.verify(study, retrainings=2, workers=0)  # targets that are no training examples
    assert {change.targets for change in tested.removal.changes} <= set(shared)


def sum_of_squares(batch, means):
    import torch

    return torch.stack([(batch - mean).square().sum(1) for mean in means], 1)


def test_bad_input(retrained, tmp_path):
    study, bank, scores = retrained
    w = weights()
    with pytest.raises(InputError, match="vector output"):
        backdoor(Attribution(np.zeros((4, 2, 4))))
    for wrong in (Attribution(w[:50]), square(w, target_ids=[f"other {i}" for i in range(N)])):
        with pytest.raises(InputError, match="not the same ones"):
            backdoor(wrong)
    empty = w.copy()
    empty[LABELS == 1] = 0
    with pytest.raises(InputError, match="60 rows of 60 examples"):
        find(square(empty))
    for changes, words in (
        ({"labels": LABELS[:9]}, "labels has 9 values"),
        ({"labels": np.arange(N)}, "no class has 40 examples"),
        ({"level": 1.5}, "level is 1.5"),
        ({"restarts": 1}, "restarts is 1"),
    ):
        with pytest.raises(InputError, match=words):
            find(square(w), **changes)
    with pytest.raises(InputError, match="another study"):
        find(square(w, provenance={"study": "0" * 64}), study=study)
    with pytest.raises(InputError, match="bank is of another study"):
        find(square(w, provenance={"study": "0" * 64}), bank=bank)
    small = whence.retrain(study, 40, to=tmp_path / "small.zarr", workers=0, progress=False)
    with pytest.raises(InputError, match="too few to find groups"):
        find(scores, bank=small)
    other = whence.Study.from_function(lambda mask, seed: np.zeros(3), n=9, targets=3, outputs=["margin"])
    with pytest.raises(InputError, match="other training examples"):
        find(square(weights()), labels=LABELS).verify(other)
