"""Poisoned studies differ from clean ones in what was poisoned and in nothing else."""

import numpy as np
import pytest
import torch

import whence
from tests.applications.backdoor.attacked import as_floats, study
from whence.applications.backdoor import Corners, Patch, Pixel, Split, poison
from whence.errors import InputError

CLEAN = study()
LABELS = np.asarray(CLEAN.train_labels)


def changed(poisoned):
    return np.flatnonzero((poisoned.study.train_inputs != poisoned.clean.train_inputs).any((1, 2)))


def test_dirty_labels():
    attack = poison(CLEAN, Patch(), "bag", count=20, seed=1)
    inputs, labels = attack.study.train_inputs, attack.study.train_labels
    assert attack.target_class == 2 and attack.label == "dirty" and len(attack.positions) == 20
    assert (LABELS[attack.positions] != 2).all() and (labels[attack.positions] == 2).all()
    assert np.array_equal(inputs[attack.positions], Patch()(CLEAN.train_inputs[attack.positions]))
    others = ~attack.is_poisoned
    assert np.array_equal(inputs[others], CLEAN.train_inputs[others])
    assert np.array_equal(labels[others], LABELS[others])
    assert attack.study.targets is CLEAN.targets or np.array_equal(
        attack.study.target_inputs, CLEAN.target_inputs
    )
    assert np.array_equal(attack.study.train_ids, CLEAN.train_ids)
    assert attack.study.fingerprint != CLEAN.fingerprint and attack.clean is CLEAN


def test_clean_labels_poison_the_target_class_alone():
    attack = poison(CLEAN, Patch(), 1, fraction=0.1, label="clean", seed=2)
    assert len(attack.positions) == 24 and (LABELS[attack.positions] == 1).all()
    assert np.array_equal(attack.study.train_labels, LABELS)
    assert np.array_equal(changed(attack), attack.positions)


def test_the_parts_of_a_split_trigger_are_shared_out():
    split = Split(of=(Pixel(at=(0, 0)), Pixel(at=(0, 27)), Pixel(at=(27, 0))))
    attack = poison(CLEAN, split, 0, count=20, seed=0)
    shown = (attack.study.train_inputs != CLEAN.train_inputs)[attack.positions]
    places = [(0, 0), (0, 27), (27, 0)]
    counts = [int(shown[:, row, column].sum()) for row, column in places]
    assert sorted(counts) == [6, 7, 7] and shown.sum() == 20
    for part, (row, column) in enumerate(places):
        assert np.array_equal(shown[:, row, column], attack.part == part)
    whole = attack.triggered().target_inputs
    assert all((whole[:, row, column] == 255).all() for row, column in places)


def test_triggered_targets_are_those_of_other_classes_under_the_target_class():
    attack = poison(CLEAN, Corners(), 0, count=10)
    asked = attack.triggered()
    kept = CLEAN.target_labels != 0
    assert len(asked.targets) == kept.sum() and (asked.target_labels == 0).all()
    assert np.array_equal(asked.target_inputs, Corners()(CLEAN.target_inputs[kept]))
    assert asked.target_ids[0].endswith("with trigger")
    both, own = attack.asked_both()
    assert own == len(CLEAN.targets) and len(both.targets) == own + kept.sum()
    assert np.array_equal(both.target_labels[:own], CLEAN.target_labels)
    assert np.array_equal(both.target_inputs[own:], asked.target_inputs)


def test_other_seeds_poison_other_images_and_equal_ones_the_same():
    first, again, other = (poison(CLEAN, Patch(), 0, count=15, seed=s).positions for s in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.all(np.diff(first) > 0)


def test_float_images_and_tensors():
    floats = study(inputs=as_floats)
    tensors = study(inputs=lambda x: torch.tensor(as_floats(x)))
    attacks = [poison(clean, Patch(), 0, count=12, seed=3) for clean in (CLEAN, floats, tensors)]
    places = attacks[0].positions
    for attack in attacks[1:]:
        assert np.array_equal(attack.positions, places)
        inputs = np.asarray(attack.study.train_inputs)
        assert np.allclose(inputs[:, 0] * 255, attacks[0].study.train_inputs, atol=1e-3)


def test_a_class_whose_images_were_all_relabelled_stays_a_class():
    attack = poison(CLEAN, Patch(), 0, count=160)
    assert attack.study.class_count == 3 and set(attack.study.train_labels) == {0}


def test_what_hardens_is_given_the_clean_study_and_the_trigger_comes_last():
    asked = []

    def black(clean, positions):
        asked.append((clean, positions))
        return np.zeros((len(positions), 28, 28), np.uint8)

    attack = poison(CLEAN, Pixel(), 0, count=9, label="clean", harden=black)
    assert asked[0][0] is CLEAN and sorted(asked[0][1]) == attack.positions.tolist()
    shown = attack.study.train_inputs[attack.positions]
    assert shown.sum() == 9 * 255 and (shown[:, -2, -2] == 255).all()


def flat():
    x = np.zeros((6, 4), np.float32)
    return whence.Study.from_training_function(lambda *_: None, (x, np.arange(6) % 2), (x, np.arange(6) % 2))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: poison(CLEAN, Patch(), 0), "count=None and fraction=None"),
        (lambda: poison(CLEAN, Patch(), 0, count=3, fraction=0.1), "pass one of the two"),
        (lambda: poison(CLEAN, Patch(), 0, fraction=1.0), "fraction is 1.0"),
        (lambda: poison(CLEAN, Patch(), 0, count=2.5), "whole number"),
        (lambda: poison(CLEAN, Patch(), 0, count=0), "pass 1 to 160"),
        (lambda: poison(CLEAN, Patch(), 0, count=161), "160 of other classes"),
        (lambda: poison(CLEAN, Patch(), 0, count=81, label="clean"), "80 of the target class"),
        (lambda: poison(CLEAN, Patch(), 3, count=5), "classes are 0..2"),
        (lambda: poison(CLEAN, Patch(), "shoe", count=5), "there are T-shirt"),
        (lambda: poison(CLEAN, Patch(), 0, count=5, label="filthy"), "filthy"),
        (lambda: poison(CLEAN, Patch(), 0, count=5, harden=lambda s, p: s), "harden is for clean labels"),
        (
            lambda: poison(CLEAN, Patch(), 0, count=5, label="clean", harden=lambda s, p: np.zeros((5, 3))),
            "harden must return",
        ),
        (lambda: poison(CLEAN, Split(of=(Pixel(), Patch(at=(0, 0)))), 0, count=1), "each of 2 parts"),
        (lambda: poison(CLEAN, Patch(at=(27, 0)), 0, count=5), "does not fit"),
        (lambda: poison(flat(), Patch(), 0, count=2), "float32"),
        (
            lambda: poison(whence.Study.from_function(lambda m, s: m, n=9, targets=2), Patch(), 0, count=2),
            "no labelled images",
        ),
        (
            lambda: poison(study(classes=("bag", "coat"), targets=1), Patch(), 0, count=5).triggered(),
            "all targets are of class 0",
        ),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
