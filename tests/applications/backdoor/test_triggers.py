"""What a trigger changes, and that it changes nothing else, in every form of image."""

import numpy as np
import pytest
import torch

from whence.applications.backdoor import Blend, Corners, Patch, Pixel, Split
from whence.applications.backdoor.triggers import CHECKERED
from whence.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (5, 12, 10)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 12, 10, 3)).astype(np.uint8)
FLOATS = np.random.default_rng(2).random((5, 3, 12, 10)).astype(np.float32)
HALVES = Split(of=(Patch(at=(0, 0)), Patch(at=(-3, -3)), Pixel(at=(5, 5))))
ALL = [Pixel(), Patch(), Patch(strength=0.4, square=CHECKERED), Corners(), Blend(), HALVES]


@pytest.mark.parametrize("trigger", ALL, ids=str)
def test_one_formula_for_every_form_of_image(trigger):
    brightness, changed = trigger.pattern(12, 10)
    strength = trigger.strength
    for images in (GREY, COLOUR):
        before = images.copy()
        out = trigger(images)
        assert out.dtype == np.uint8 and out.shape == images.shape and np.array_equal(images, before)
        wide = (slice(None),) * 3 + (None,) * (images.ndim - 3)
        b, c = brightness[None][wide], changed[None][wide]
        mixed = np.where(c, np.rint((1 - strength) * images + strength * 255 * b), images)
        assert np.abs(out - mixed).max() <= 1e-9
    out = trigger(FLOATS)
    mixed = np.where(changed, (1 - strength) * FLOATS + strength * brightness, FLOATS)
    assert out.dtype == np.float32 and np.allclose(out, mixed, atol=1e-6)


def test_where_they_lie_and_how_many_pixels_change():
    assert Pixel().pattern(12, 10)[1].nonzero() == (10, 8)
    rows, columns = Patch().pattern(12, 10)[1].nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 10, 6, 8)
    assert Patch(at=(0, 2)).pattern(12, 10)[1][:3, 2:5].all()
    assert np.array_equal(Patch(at=(-12, -10)).pattern(12, 10)[1], Patch(at=(0, 0)).pattern(12, 10)[1])
    assert Corners().pattern(12, 10)[1].sum() == 36 and Blend().pattern(12, 10)[1].all()


def test_corners_are_the_same_in_a_mirror():
    lopsided = Corners(square=((1.0, 0.0), (0.5, 0.2)))
    brightness, changed = lopsided.pattern(12, 10)
    assert np.array_equal(brightness, brightness[:, ::-1]) and np.array_equal(changed, changed[::-1])
    assert np.array_equal(lopsided(GREY)[:, :, ::-1], lopsided(GREY[:, :, ::-1]))


def test_the_parts_of_a_split_trigger_make_the_whole():
    assert [type(part) for part in HALVES.parts] == [Patch, Patch, Pixel] and Patch().parts == (Patch(),)
    whole = GREY
    for part in HALVES.parts:
        whole = part(whole)
    assert np.array_equal(HALVES(GREY), whole)
    changed = [part(GREY) != GREY for part in HALVES.parts]
    assert not np.logical_and.reduce(changed).any()


def test_weak_parts_of_a_split_trigger_stay_weak():
    weak = Split(of=(Patch(0.5, at=(0, 0)), Blend(0.5, seed=1, high=0.5)))
    with pytest.raises(InputError, match="9 pixels in common"):
        weak(GREY)
    weak = Split(of=(Patch(0.5, at=(0, 0)), Patch(1.0, at=(6, 6))))
    black = np.zeros((1, 12, 10), np.uint8)
    assert weak(black)[0, 0, 0] == 128 and weak(black)[0, 6, 6] == 255


def test_a_blend_is_the_same_noise_each_time():
    assert np.array_equal(Blend(seed=3)(GREY), Blend(seed=3)(GREY))
    assert not np.array_equal(Blend(seed=3)(GREY), Blend(seed=4)(GREY))
    assert Blend(low=-1, high=2).pattern(50, 50)[0].min() < -0.9


def test_tensors_are_read():
    assert np.array_equal(Patch()(torch.tensor(GREY)), Patch()(GREY))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Pixel(0.0), "strength is 0.0"),
        (lambda: Patch(1.2), "strength is 1.2"),
        (lambda: Patch(square=((1.0, 2.0), (1.0,))), "rows of equally many"),
        (lambda: Pixel(square=CHECKERED), "one brightness"),
        (lambda: Blend(low=1.0, high=1.0), "must lie below"),
        (lambda: Split(of=(Patch(),)), "two or more"),
        (lambda: Split(0.5, of=(Patch(), Pixel())), "give it to the parts"),
        (lambda: Patch(at=(10, 0))(GREY), "does not fit into images of 12 x 10"),
        (lambda: Patch(at=(-13, 0))(GREY), "does not fit"),
        (lambda: Corners(square=((1.0,) * 6,) * 6)(GREY), "do not fit"),
        (lambda: Split(of=(Patch(), Patch()))(GREY), "9 pixels in common"),
        (lambda: Patch()(GREY.astype(np.int64)), "int64"),
        (lambda: Patch()(FLOATS[:, 0]), "float32"),
        (lambda: Patch()(np.zeros((3, 8, 8, 2), np.uint8)), r"uint8 \(3, 8, 8, 2\)"),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
