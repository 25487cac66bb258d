"""Data on the device: scaling, layout, and augmentation that can be followed by eye."""

import numpy as np
import pytest
import torch

from tests.training.studies import N, images, masks, study, train
from whence.errors import InputError
from whence.study import Augment, Erase, Recipe, Study
from whence.study._examples import Examples
from whence.training import logistic_regression
from whence.training.data import OnDemand, Resident, _augment, draw_augmentation
from whence.training.order import epochs, pool

CPU = torch.device("cpu")


def resident(inputs, statistics=None):
    labels = np.zeros(len(inputs), int)
    examples = Examples.of((inputs, labels), "train")
    other = (
        examples if statistics is None else Examples.of((statistics, np.zeros(len(statistics), int)), "train")
    )
    return Resident(examples, other, CPU)


def colours(count=20, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, 6, 4, 3)) // np.array([1, 2, 4])).astype(np.uint8)


def test_bytes_are_standardised_per_channel_and_arrive_channel_first():
    pictures = colours()
    x = resident(pictures).inputs(slice(0, None))
    assert x.shape == (20, 3, 6, 4)
    floats = pictures.astype(np.float64)
    expected = (floats - floats.mean((0, 1, 2))) / floats.std((0, 1, 2))
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_targets_are_scaled_as_the_training_set_is():
    train_pictures, targets = colours(), colours(3, seed=1)
    both = resident(np.concatenate([train_pictures, targets]), train_pictures).inputs(slice(20, None))
    torch.testing.assert_close(resident(targets, train_pictures).inputs(slice(0, None)), both)


def test_a_constant_channel_stays_finite():
    assert torch.isfinite(resident(np.full((4, 5, 5), 7, np.uint8)).x).all()


def test_floats_and_tokens_are_taken_as_they_are():
    floats = torch.randn(5, 3, 4, 6)
    torch.testing.assert_close(resident(floats).inputs(torch.tensor([3, 1])), floats[[3, 1]])
    features = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_array_equal(
        resident(features).inputs(slice(0, None)).numpy(), features.astype(np.float32)
    )
    tokens = np.arange(15, dtype=np.int32).reshape(5, 3)
    found = resident(tokens).inputs(torch.tensor([[0, 4], [2, 2]]))
    assert found.dtype == torch.int64
    assert found[0, 1].tolist() == [12, 13, 14]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((4, 9), np.uint8), r"uint8 inputs are read as images .* received shape \(4, 9\)"),
        (np.zeros((4, 5, 5, 2), np.uint8), "uint8 inputs are read as images"),
        (np.array([["a"], ["b"]]), "trains on numbers, received inputs of dtype"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(inputs, says):
    with pytest.raises(InputError, match=says):
        resident(inputs)


def test_the_users_array_is_neither_kept_nor_changed():
    pictures = colours()
    copy = pictures.copy()
    data = resident(pictures)
    data.x.zero_()
    np.testing.assert_array_equal(pictures, copy)


def numpy_augment(picture, flip, shift, row, column, size):
    """The same picture, pixel by pixel."""
    height, width, _ = picture.shape
    out = np.empty_like(picture)
    for i in range(height):
        for j in range(width):
            down, across = i + shift[0], j + shift[1]
            down = abs(down) if down < height else 2 * (height - 1) - down
            across = abs(across) if across < width else 2 * (width - 1) - across
            across = width - 1 - across if flip else across  # the mirrored picture is what is shifted
            inside = row <= i < row + size and column <= j < column + size
            out[i, j] = 0 if inside else picture[down, across]
    return out


def test_all_augmentations_together_pixel_by_pixel():
    augment, count = Augment(flip=True, translate=3, cutout=2), 60
    pictures = torch.randn(count, 6, 5, 3)
    draws = draw_augmentation(augment, count, (6, 5, 3), torch.Generator().manual_seed(2))
    found = _augment(pictures, draws).numpy()
    for i in range(count):
        expected = numpy_augment(
            pictures[i].numpy(),
            bool(draws["flip"][i]),
            draws["shift"][i].tolist(),
            int(draws["cutout_row"][i]),
            int(draws["cutout_column"][i]),
            2,
        )
        np.testing.assert_array_equal(found[i], expected)


def test_augmentation_takes_every_example_apart_in_any_grouping():
    data = resident(colours())
    draws = draw_augmentation(Augment(True, 2, 2), 8, (6, 4, 3), torch.Generator().manual_seed(0))
    index = torch.arange(8)
    flat = data.inputs(index, draws)
    grouped = data.inputs(index.view(2, 4), {key: v.view(2, 4, *v.shape[1:]) for key, v in draws.items()})
    torch.testing.assert_close(grouped.flatten(0, 1), flat, rtol=0, atol=0)
    torch.testing.assert_close(data.inputs(index[[5]], {k: v[[5]] for k, v in draws.items()})[0], flat[5])


def test_a_fixed_rectangle_is_erased_as_often_as_was_asked_and_before_the_image_moves():
    augment, count = Augment(flip=True, translate=2, erase=Erase(1, 0, 2, 3, 0.25)), 4000
    draws = draw_augmentation(augment, count, (6, 5, 1), torch.Generator().manual_seed(3))
    erased = draws["erase"][:, 2] > 0
    assert abs(float(erased.float().mean()) - 0.25) < 0.03
    pictures = torch.randn(count, 6, 5, 1)
    blanked = pictures.clone()
    blanked[erased, 1:3, 0:3] = 0
    moved = {key: draws[key] for key in ("flip", "shift")}
    torch.testing.assert_close(_augment(pictures, draws), _augment(blanked, moved), rtol=0, atol=0)
    always = draw_augmentation(Augment(erase=Erase(4, 3, 2, 2)), 9, (6, 5, 1), torch.Generator())
    assert (_augment(pictures[:9], always)[:, 4:, 3:] == 0).all()


@pytest.mark.parametrize("stack", [1, 3])
def test_what_is_erased_in_every_epoch_is_not_learned(stack):
    pictures = images()[0]
    mixed = pictures.copy()
    mixed[:N, :3, :4] = np.random.default_rng(0).permutation(pictures[:N, :3, :4])  # same channel statistics
    for augment, same in ((None, False), (Augment(erase=Erase(0, 0, 3, 4)), True)):
        one, other = (
            np.stack(train(study(x=x, augment=augment), masks(3), range(3), stack)) for x in (pictures, mixed)
        )
        assert np.allclose(one, other, rtol=0, atol=1e-5) == same


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        (Augment(erase=Erase(6, 0, 3, 3)), "does not fit into images of 8 x 8 pixels"),
        (Augment(translate=8), "translate=8 and cutout=0 do not fit into images of 8 x 8 pixels"),
        (Augment(cutout=9), "cutout=9"),
    ],
)
def test_augmentation_larger_than_the_image_fails_before_training(augment, says):
    with pytest.raises(InputError, match=says):
        study(augment=augment).trainer()


@pytest.mark.parametrize("shape", [(64,), (8, 8)])
def test_augmentation_of_what_is_no_image_is_refused(shape):
    floats = np.random.default_rng(0).normal(size=(12, *shape)).astype(np.float32)
    settings = study(augment=Augment(flip=True)).recipe
    recipe = Recipe(lambda: logistic_regression(64, 3), 1, 4, settings.optimizer, augment=settings.augment)
    subject = Study((floats, np.arange(12) % 3), (floats, np.arange(12) % 3), recipe)
    with pytest.raises(InputError, match="augment is for images"):
        subject.trainer()


def test_augmented_runs_repeat_and_differ_from_plain_ones():
    rows = masks(1)
    augmented = study("mlp", augment=Augment(True, 2, 3))
    first, again = (train(augmented, rows, [4])[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, train(study("mlp"), rows, [4])[0])
    # Switched on, but with nothing to do: the very run without it.
    np.testing.assert_array_equal(
        train(study("mlp", augment=Augment()), rows, [4])[0], train(study("mlp"), rows, [4])[0]
    )


def test_targets_are_never_augmented():
    subject = study(augment=Augment(True, 2, 3))
    plain = study()
    torch.testing.assert_close(
        subject.trainer().queries.inputs(slice(0, None)), plain.trainer().queries.inputs(slice(0, None))
    )


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("subset", ["shorter", "weighted"])
def test_every_epoch_is_a_fresh_order_of_the_subset(subset, drop_last):
    recipe = study(subset=subset, drop_last=drop_last).recipe
    mask = torch.as_tensor(masks(1)[0], dtype=torch.float32)
    positions = pool(mask, recipe)
    assert positions.tolist() == (
        list(range(N)) if subset == "weighted" else mask.nonzero().flatten().tolist()
    )
    orders = [order.tolist() for order, _ in epochs(positions, recipe, (), seed=3)]
    used = len(positions) // 8 * 8 if drop_last else len(positions)
    assert len(orders) == recipe.epochs
    for order in orders:
        assert len(set(order)) == len(order) == used
        assert set(order) <= set(positions.tolist())
    assert len({tuple(order) for order in orders}) == len(orders)
    assert orders == [order.tolist() for order, _ in epochs(positions, recipe, (), seed=3)]
    assert orders != [order.tolist() for order, _ in epochs(positions, recipe, (), seed=4)]


def test_weight_zero_in_a_byte_image_moves_only_the_scaling():
    """Statistics belong to the study: two studies with equal statistics scale alike, whatever the mask."""
    pictures, _ = images()
    assert torch.equal(study().trainer().data.x, study(x=pictures.copy()).trainer().data.x)


@pytest.mark.parametrize("kind", ["grey", "colour", "channel first", "features", "tokens"])
def test_inputs_on_demand_are_those_that_are_held(kind, tmp_path):
    random = np.random.default_rng(0)
    x = {
        "grey": random.integers(0, 256, (30, 5, 4), dtype=np.uint8),
        "colour": random.integers(0, 256, (30, 5, 4, 3), dtype=np.uint8),
        "channel first": random.normal(size=(30, 3, 5, 4)).astype(np.float32),
        "features": random.normal(size=(30, 6)),
        "tokens": random.integers(0, 9, (30, 6)),
    }[kind]
    np.save(tmp_path / "x.npy", x)
    y = np.arange(30) % 3
    lying = Examples.of((np.load(tmp_path / "x.npy", mmap_mode="r"), y), "train")
    assert isinstance(lying.inputs, np.memmap), "what lies on disk stays there"
    held, demanded = Resident(Examples.of((x, y), "train"), lying, CPU), OnDemand(lying, lying, CPU)
    assert torch.equal(held.y, demanded.y)
    for index in (slice(3, 9), slice(None), torch.tensor([4, 0, 4])):
        found = demanded.inputs(index)
        assert torch.equal(found, held.inputs(index)) and found.dtype == held.inputs(index).dtype
    half = OnDemand(lying, lying, CPU, torch.bfloat16).inputs(slice(2))
    assert half.dtype == (torch.int64 if kind == "tokens" else torch.bfloat16)
