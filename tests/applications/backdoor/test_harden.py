"""Hardened images: within their cube, worse recognised than random changes of that size, mixed as said."""

import numpy as np
import pytest

import whence
from tests.applications.backdoor.attacked import as_floats, study
from whence.applications.backdoor import Adversarial, Interpolated
from whence.errors import InputError
from whence.study.variants import with_outputs, with_targets

CLEAN = study(outputs=["margin"])
POSITIONS = np.flatnonzero(np.asarray(CLEAN.train_labels) == 1)[:30]


def margins(of, images):
    asked = with_targets(of, (images, np.asarray(of.train_labels)[POSITIONS]))
    asked = with_outputs(asked, ["margin"])
    run = next(iter(asked.trainer().train(np.ones((1, of.n), bool), np.array([9]))))
    return run.outputs["margin"]


@pytest.mark.parametrize("form", ["uint8", "colour", "float"])
def test_adversarial_images_stay_in_the_cube_and_are_hard(form):
    inputs = {"uint8": None, "colour": lambda x: np.repeat(x[..., None], 3, 3), "float": as_floats}[form]
    clean = CLEAN if inputs is None else study(inputs=inputs)
    if form == "colour":
        from functools import partial

        from whence.study import SGD, Recipe, Study

        recipe = Recipe(partial(whence.networks.mlp, 3 * 784, 3, (32,)), 6, 32, SGD(0.02, 0.9))
        clean = Study(
            (clean.train_inputs, clean.train_labels), (clean.target_inputs, clean.target_labels), recipe
        )
    images = np.asarray(clean.train_inputs)[POSITIONS]
    top = 1.0 if form == "float" else 255
    hard = Adversarial(epsilon=0.1, steps=10, seed=0)(clean, POSITIONS)
    moved = np.abs(hard.astype(float) - images)
    assert hard.shape == images.shape and hard.dtype == images.dtype
    assert moved.max() <= 0.1 * top + 0.51 * (top > 1) + 1e-6 and moved.mean() > 0.02 * top
    assert hard.min() >= 0 and hard.max() <= top
    noise = np.random.default_rng(0).choice([-1.0, 1.0], images.shape) * 0.1 * top
    shaken = np.clip(images + noise, 0, top).astype(images.dtype)
    # a network with another seed is fooled, too
    assert margins(clean, hard).mean() < margins(clean, shaken).mean() - 1


def test_the_same_seed_hardens_the_same():
    first, again = (Adversarial(0.1, steps=3, models=2, seed=4)(CLEAN, POSITIONS) for _ in range(2))
    assert np.array_equal(first, again)


def test_interpolated_images_lie_on_the_way_to_another_class():
    share = 0.25
    mixed = Interpolated(share, seed=1)(CLEAN, POSITIONS).astype(float)
    images = CLEAN.train_inputs.astype(float)
    partners = (mixed - (1 - share) * images[POSITIONS]) / share
    others = np.flatnonzero(np.asarray(CLEAN.train_labels) != 1)
    distance = np.abs(partners[:, None] - images[others]).max((2, 3)).min(1)
    assert distance.max() <= 0.51 / share  # half a step of rounding
    floats = Interpolated(share, seed=1)(study(inputs=as_floats), POSITIONS)
    assert floats.dtype == np.float32 and np.allclose(floats[:, 0] * 255, mixed, atol=0.51)


def no_recipe():
    x = np.zeros((6, 8, 8), np.uint8)
    pair = x, np.arange(6) % 2
    return whence.Study.from_training_function(lambda *_: None, pair, pair)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Adversarial(0.0), "epsilon is 0.0"),
        (lambda: Adversarial(steps=0), "steps=0"),
        (lambda: Interpolated(1.0), "share is 1.0"),
        (lambda: Adversarial()(no_recipe(), np.arange(3)), "needs a study with a Recipe"),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
