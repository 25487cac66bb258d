"""Studies changed in one respect: other outputs, relabelled copies."""

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.study.variants import with_copies, with_outputs

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


def test_bad_input():
    with pytest.raises(InputError, match=r"lie in 0\.\.2"):
        with_copies(study(), [0], [3])
    with pytest.raises(InputError, match="one entry for each copy"):
        with_copies(study(), [0, 1], [2])
    function = whence.Study.from_function(lambda mask, seed: mask[:2], n=4, targets=2)
    for change in (lambda: with_copies(function, [0], [0]), lambda: with_outputs(function, ["loss"])):
        with pytest.raises(InputError, match="no labelled inputs"):
            change()
