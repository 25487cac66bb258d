"""What a study is: its checks and its pictures."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from whence.errors import InputError
from whence.study import SGD, Augment, Recipe, Study
from whence.training import logistic_regression

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8), np.arange(12) % 3
RECIPE = Recipe(partial(logistic_regression, 16, 3), 1, 4, SGD(0.1))


def study(**changes):
    return Study(**{"train": (X[:8], Y[:8]), "targets": (X[8:], Y[8:]), "recipe": RECIPE, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": (X[:8], Y[:7])}, "train has 8 inputs but labels of shape"),
        ({"train": X}, r"train must be a pair \(inputs, labels\)"),
        ({"train": (X[:1], Y[:1])}, "at least 2 examples"),
        ({"targets": (X[:0], Y[:0])}, "targets is empty"),
        ({"targets": (X[8:], [0, 1, 2, 7])}, r"targets has label 7, but labels must lie in 0\.\.2"),
        ({"train": (X[:8], Y[:8] - 1)}, "train has label -1"),
        ({"train": (X[:8], Y[:8] / 2)}, "labels must be integers"),
        ({"classes": ["a", "b"]}, "label 2, but labels must lie in 0..1 for 2 classes"),
        ({"train": (np.full((8, 4), np.nan), Y[:8])}, "NaN or infinite"),
        ({"train_ids": [1, 1, 2, 3, 4, 5, 6, 7]}, "train_ids must be unique, but .*1.* appears 2 times"),
        ({"target_ids": ["a"]}, "target_ids must have one id for each of 4 examples"),
        ({"outputs": ["margins"]}, "outputs must name at least one of"),
        ({"targets": (X[8:, :3], Y[8:])}, r"shape of training examples, \(4, 4\), received \(3, 4\)"),
        ({"targets": (X[8:] / 255, Y[8:])}, "uint8 is scaled and other numbers are taken as they are"),
        ({"train": (3, Y[:8])}, "an array with one row for each example, received int"),
        ({"train": (X[:8], Y[:8] * 0), "targets": (X[8:], Y[8:] * 0)}, "train has one class only"),
        ({"outputs": ["margin", "loss", "margin"]}, "outputs must differ from each other"),
        ({"recipe": "sgd"}, "recipe must be a whence.Recipe, received str"),
    ],
)
def test_bad_studies_get_one_sentence(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        study(**changes)
    assert "\n" not in str(caught.value)


class Wrapped(nn.Sequential):
    def forward(self, x):
        return super().forward(x), None


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (partial(logistic_regression, 9, 3), r"cannot read inputs of shape \(1, 1, 4, 4\)"),
        (
            partial(logistic_regression, 16, 4),
            r"logits of shape \(batch, 3\) for 3 classes, received \(1, 4\)",
        ),
        (lambda: None, "must return a torch.nn.Module, it returned NoneType"),
        (lambda: Wrapped(nn.Flatten()), "logits as one tensor, it returned tuple"),
        (lambda: nn.Embedding(2, 3), "cannot read inputs"),
    ],
)
def test_networks_that_do_not_fit_fail_before_training(model, says):
    with pytest.raises(InputError, match=says):
        study(recipe=Recipe(model, 1, 4, SGD(0.1))).trainer()


@pytest.mark.parametrize("masks", [np.ones((2, 7)), np.ones(9), np.zeros((1, 8)), np.full(8, 0.5)])
def test_masks_of_another_shape_or_empty_are_refused(masks):
    with pytest.raises(InputError):
        study().check_masks(masks)


def test_pictures_come_as_bytes():
    assert study().image("train", 3).tolist() == X[3].tolist()
    colour = np.stack([X] * 3, -1)
    assert study(train=(colour[:8], Y[:8]), targets=(colour[8:], Y[8:])).image("target", 0).shape == (4, 4, 3)
    floats = torch.randn(12, 3, 4, 4)
    picture = study(train=(floats[:8], Y[:8]), targets=(floats[8:], Y[8:])).image("train", 0)
    assert (picture.dtype, picture.min(), picture.max(), picture.shape) == (np.uint8, 0, 255, (4, 4, 3))
    plain = Study.from_function(lambda mask, seed: [0.0], n=4, targets=1)
    assert plain.image("train", 0) is None
    assert not plain.is_image


@pytest.mark.parametrize(
    ("changes", "augment", "says"),
    [
        ({}, Augment(translate=4), "do not fit into images of 4 x 4"),
        ({}, Augment(cutout=5), "cutout=5 do not fit"),
        (
            {"train": (X[:8] / 255.0, Y[:8]), "targets": (X[8:] / 255.0, Y[8:])},
            Augment(flip=True),
            "augment is for images",
        ),
    ],
)
def test_an_augmentation_that_cannot_be_done_is_refused(changes, augment, says):
    recipe = Recipe(RECIPE.model, 1, 4, SGD(0.1), augment=augment)
    with pytest.raises(InputError, match=says):
        study(recipe=recipe, **changes).trainer()


def test_lists_tensors_and_data_frames_are_examples_too():
    floats = X.reshape(12, 16) / np.float32(255)
    recipe = Recipe(partial(logistic_regression, 16, 3), 1, 4, SGD(0.1))
    inputs = {
        "array": floats,
        "list": floats.tolist(),
        "tensor": torch.as_tensor(floats).requires_grad_(),
        "frame": pytest.importorskip("pandas").DataFrame(floats),
    }
    margins = []
    for x in inputs.values():
        rows = x.iloc if hasattr(x, "iloc") else x
        subject = Study((rows[:8], Y[:8].tolist()), (rows[8:], torch.as_tensor(Y[8:])), recipe)
        run = next(subject.trainer().train(np.ones((1, 8), bool), np.array([0])))
        margins.append(run.outputs["margin"])
    for other in margins[1:]:
        np.testing.assert_array_equal(other, margins[0])
