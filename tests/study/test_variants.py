"""Studies changed in one respect: other outputs, relabelled copies, other targets or training examples."""

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.study import Retrained, Trainer
from whence.study.variants import (
    joint_targets,
    self_targets,
    with_copies,
    with_outputs,
    with_targets,
    with_train,
    with_trainer,
)

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.arange(12) % 3


def means(inputs, labels, seed):
    """Nearest class mean."""
    centres = torch.stack([inputs[labels == c].mean(0) for c in range(3)])
    return lambda x: -torch.cdist(x, centres)


def study(**changes):
    return whence.Study.from_training_function(means, (X, Y), (X[:4], Y[:4]), **changes)


def outputs(of, mask):
    return next(iter(of.trainer().train(np.asarray(mask)[None], np.zeros(1, np.int64)))).outputs


def test_a_copy_in_place_of_its_original_relabels_it():
    plain = study()
    changed = with_copies(plain, [1, 4], [2, 0])
    assert changed.n == 14 and changed.train_labels[12:].tolist() == [2, 0]
    labels = Y.copy()
    labels[1] = 2
    relabelled = whence.Study.from_training_function(means, (X, labels), (X[:4], Y[:4]))
    mask = np.ones(14, bool)
    mask[[1, 13]] = False
    expected = outputs(relabelled, np.ones(12, bool))["margin"]
    assert outputs(changed, mask)["margin"] == pytest.approx(expected, abs=1e-5)
    assert plain.n == 12 and len(plain.train_ids) == 12


def test_ids_stay_unique_and_fingerprints_differ():
    plain = study()
    before = plain.fingerprint
    numbers = with_copies(plain, [0, 3], [1, 1])
    words = with_copies(study(train_ids=[f"t{i}" for i in range(12)]), [0, 3], [1, 1])
    assert numbers.train_ids.tolist()[-2:] == [12, 13]
    assert words.train_ids.tolist()[-2:] == ["t0 as 1", "t3 as 1"]
    assert len({before, numbers.fingerprint, with_outputs(plain, ["loss"]).fingerprint}) == 3
    assert plain.fingerprint == before


def test_other_outputs_are_recorded():
    changed = with_outputs(study(), ["logits", "loss"])
    found = outputs(changed, np.ones(12, bool))
    assert found["logits"].shape == (4, 3) and set(found) == {"logits", "loss"}


def test_tensors_are_copied_too():
    tensors = whence.Study.from_training_function(means, (torch.tensor(X), Y), (torch.tensor(X[:4]), Y[:4]))
    assert torch.equal(with_copies(tensors, [5], [0]).train_inputs[12], tensors.train_inputs[5])


def test_a_recipe_s_study_trains_on_copies():
    recipe = whence.Recipe(
        lambda: whence.networks.mlp(3, 3, (4,)), epochs=1, batch_size=4, optimizer=whence.SGD(0.1)
    )
    changed = with_copies(whence.Study((X, Y), (X[:4], Y[:4]), recipe), [0], [2])
    assert np.isfinite(outputs(changed, np.arange(13) != 0)["margin"]).all()


def test_other_targets_are_asked_the_same_models():
    plain = study(train_ids=[f"t{i}" for i in range(12)])
    asked = with_targets(plain, (X[6:9], Y[6:9]), ids=["a", "b", "c"])
    assert asked.target_ids.tolist() == ["a", "b", "c"] and plain.targets is not asked.targets
    whole = self_targets(plain)
    assert whole.target_ids.tolist() == whole.train_ids.tolist() == plain.train_ids.tolist()
    mask = np.arange(12) % 5 != 0
    out = outputs(whole, mask)["margin"]
    assert outputs(asked, mask)["margin"] == pytest.approx(out[6:9], abs=1e-6)
    assert outputs(plain, mask)["margin"] == pytest.approx(out[:4], abs=1e-6)
    assert len({plain.fingerprint, asked.fingerprint, whole.fingerprint}) == 3


def test_other_training_examples_keep_ids_and_classes():
    plain = study(train_ids=[f"t{i}" for i in range(12)])
    labels = np.minimum(Y, 1)
    changed = with_train(plain, (X, labels))
    assert changed.train_ids.tolist() == plain.train_ids.tolist()
    assert changed.class_count == 3 and changed.classes is None and plain.train_labels.max() == 2
    assert changed.train_labels.tolist() == labels.tolist()


def test_bad_input():
    with pytest.raises(InputError, match=r"lie in 0\.\.2"):
        with_copies(study(), [0], [3])
    with pytest.raises(InputError, match="one entry for each copy"):
        with_copies(study(), [0, 1], [2])
    with pytest.raises(InputError, match="has 11 examples, but the study has 12"):
        with_train(study(), (X[1:], Y[1:]))
    with pytest.raises(InputError, match=r"lie in 0\.\.2"):
        with_train(study(), (X, Y + 1))
    with pytest.raises(InputError, match="shape of training examples"):
        with_targets(study(), (X[:, :2], Y))
    with pytest.raises(InputError, match="must be unique"):
        with_targets(study(), (X[:2], Y[:2]), ids=["a", "a"])
    function = whence.Study.from_function(lambda mask, seed: mask[:2], n=4, targets=2)
    for change in (
        lambda: with_copies(function, [0], [0]),
        lambda: with_outputs(function, ["loss"]),
        lambda: self_targets(function),
    ):
        with pytest.raises(InputError, match="no labelled inputs"):
            change()


def test_training_examples_and_targets_together():
    plain = study(train_ids=[f"t{i}" for i in range(12)], target_ids=["t3", "a", "b", "c"])
    joint = joint_targets(plain)
    own = plain.train_ids.tolist()
    assert joint.target_ids.tolist() == [*own, "target/t3", "target/a", "target/b", "target/c"]
    mask = np.arange(12) % 5 != 0
    found = outputs(joint, mask)["margin"]
    assert found[12:] == pytest.approx(outputs(plain, mask)["margin"], abs=1e-6)
    assert found[:12] == pytest.approx(outputs(self_targets(plain), mask)["margin"], abs=1e-6)
    numbers = joint_targets(study())
    assert numbers.target_ids.tolist() == list(range(16))
    tensors = whence.Study.from_training_function(means, (torch.tensor(X), Y), (torch.tensor(X[:4]), Y[:4]))
    assert torch.equal(joint_targets(tensors).target_inputs[12:], tensors.target_inputs)


def test_another_way_to_make_the_models():
    plain = study()

    class Ones(Trainer):
        def train(self, masks, seeds, keep_states=False):
            for _ in masks:
                yield Retrained({"margin": np.ones(4, np.float32)}, 0.0)

    changed = with_trainer(plain, lambda study, device: Ones(), {"kind": "ones"})
    assert outputs(changed, np.arange(12) > 3)["margin"].tolist() == [1, 1, 1, 1]
    assert changed.fingerprint != plain.fingerprint and changed.describe()["method"] == {"kind": "ones"}
