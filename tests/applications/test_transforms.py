"""Transforms: what they do pixel by pixel, strength, and what they refuse."""

import numpy as np
import pytest

from whence.applications.transforms import Blend, Patch, Texture, Tint
from whence.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 8, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
PICTURE = RNG.integers(0, 256, (8, 6), dtype=np.uint8)
ALL = [Patch(1, 2, 3, 2), Tint((200,)), Blend(PICTURE), Texture(np.tile(PICTURE, (2, 2)))]


@pytest.mark.parametrize("change", ALL, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_transform_keeps_shape_and_the_original(change, images):
    before = images.copy()
    changed = change(images)
    assert changed.shape == images.shape and changed.dtype == np.uint8
    assert not np.array_equal(changed, images) and np.array_equal(images, before)
    assert np.array_equal(change.at(0.0)(images), images) and np.array_equal(change.at(1.0)(images), changed)
    half = change.at(0.5)(images).astype(float)
    assert np.abs(half - (images.astype(float) + changed) / 2).max() <= 0.75  # of rounding
    assert np.array_equal(change(images), changed)


def test_a_patch_is_where_it_should_be():
    changed = Patch(1, 2, 3, 2, (255, 0, 9))(COLOUR)
    assert (changed[:, 1:4, 2:4] == [255, 0, 9]).all()
    outside = np.ones((8, 6), bool)
    outside[1:4, 2:4] = False
    assert np.array_equal(changed[:, outside], COLOUR[:, outside])
    assert (Patch(0, 0, 1, 1)(GREY)[:, 0, 0] == 255).all()
    assert str(Patch(0, 0, 1, 2)) == "a patch of 1 x 2 pixels at (0, 0)"
    assert str(Patch(0, 0, 1, 2, strength=0.5)).endswith(" at strength 0.5")


def test_tint_blend_and_texture():
    yellow = Tint((255, 255, 0))(COLOUR)
    assert (yellow[..., 2] == 0).all() and np.array_equal(yellow[..., 0], np.rint(COLOUR.mean(-1)))
    assert (Blend(PICTURE)(COLOUR) == PICTURE[..., None]).all()
    flat = Texture(np.full((9, 9), 40, np.uint8))(GREY)
    assert np.array_equal(flat, np.minimum(GREY.astype(int) + 40, 255))
    dotted = np.zeros((30, 30), np.uint8)
    dotted[::3, ::4] = 90
    light = Texture(dotted)(np.zeros((40, 6, 6), np.uint8))
    assert len({image.tobytes() for image in light}) > 5  # every image has its own window
    assert not np.array_equal(light, Texture(dotted, seed=1)(np.zeros((40, 6, 6), np.uint8)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Patch(0, 0, 1, 1, strength=1.5), "strength must lie in 0..1, received 1.5"),
        (lambda: Patch(0, 5, 2, 2)(GREY), "does not fit into images of 8 x 6 pixels"),
        (lambda: Patch(0, 0, 0, 2)(GREY), "does not fit"),
        (lambda: Patch(0, 0, 1, 1, (1, 2))(COLOUR), "colour must be one number or 3"),
        (lambda: Tint(300)(GREY), "from 0 to 255"),
        (lambda: Blend(PICTURE[:4])(GREY), "picture is of 4 x 6 pixels"),
        (lambda: Blend(PICTURE / 255)(GREY), "picture must be uint8"),
        (lambda: Texture(PICTURE[:, :5])(GREY), "pass a larger one"),
        (lambda: Texture(COLOUR[0])(GREY), "picture has 3 channels, the images have 1"),
        (lambda: Patch(0, 0, 1, 1)(GREY / 255), "changes uint8 images"),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(InputError, match=says):
        make()
