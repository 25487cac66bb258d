"""One at a time or stacked: the same runs, and a model never depends on its company."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import MODELS, N, masks, study, train
from whence.errors import InputError
from whence.study import Augment
from whence.training.data import _augment, draw_augmentation


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options", [{}, {"subset": "weighted"}, {"augment": Augment(True, 1, 2)}])
def test_stacked_runs_are_the_runs_of_the_loop(model, options):
    subject, rows, seeds = study(model, **options), masks(5), range(5)
    for alone, stacked in zip(train(subject, rows, seeds), train(subject, rows, seeds, stack=3), strict=True):
        np.testing.assert_allclose(stacked, alone, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stack", [1, 4])
def test_company_changes_no_bit(model, stack, precision):
    subject, rows, seeds = study(model, precision=precision), masks(6), np.arange(6)
    together = train(subject, rows, seeds, stack)
    for order in (np.arange(6)[::-1], np.array([4, 1, 1, 0, 5, 2, 3]), np.array([5])):
        for i, output in zip(order, train(subject, rows[order], seeds[order], stack), strict=True):
            np.testing.assert_array_equal(output, together[i])


@pytest.mark.parametrize("stack", [1, 3])
def test_masks_of_several_sizes(stack):
    rng = np.random.default_rng(0)
    rows = rng.random((7, N)) < 0.5
    subject = study("mlp")
    together = train(subject, rows, range(7), stack)
    for i in range(7):
        np.testing.assert_array_equal(train(subject, rows[[i]], [i], stack)[0], together[i])
        np.testing.assert_allclose(train(subject, rows[[i]], [i])[0], together[i], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("stack", [1, 2])
def test_seed_and_mask_both_matter(stack):
    subject, rows = study("mlp"), masks(2)
    a, b, c = (train(subject, rows[[i]], [seed], stack)[0] for i, seed in ((0, 1), (0, 2), (1, 1)))
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_users_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(study("mlp"), masks(2), [1, 2])
    train(study("mlp"), masks(2), [1, 2], stack=2)
    torch.testing.assert_close(torch.rand(2), expected)


def test_dropout_is_deterministic_and_stays_with_the_loop():
    subject = study(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 3)))
    rows = masks(3)
    first = train(subject, rows, [5, 6, 7])
    np.testing.assert_array_equal(train(subject, rows[[2]], [7])[0], first[2])
    assert subject.trainer().choose(rows, np.arange(3))["stack"] == 1


def test_foreign_batch_norm_is_refused_where_it_would_lie():
    with pytest.raises(InputError, match="batch-norm layers in which they would still count"):
        study(
            lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 3)), subset="weighted"
        ).trainer()


def test_the_choice_is_a_measurement_that_can_be_stored():
    import json

    choice = study("logistic").trainer().choose(masks(2), np.arange(2))
    assert json.loads(json.dumps(choice)) == choice
    assert choice["seconds_per_model"] > 0
    assert choice["stack"] >= 1


@pytest.mark.parametrize("precision", ["mixed", "auto"])
def test_mixed_precision_records_float32_and_agrees(precision):
    rows = masks(3)
    plain, mixed = (train(study("mlp", precision=p), rows, range(3)) for p in ("float32", precision))
    assert mixed[0].dtype == np.float32
    assert np.corrcoef(np.ravel(plain), np.ravel(mixed))[0, 1] > 0.99


@pytest.mark.parametrize("stack", [1, 3])
def test_a_subset_without_a_single_step_is_refused(stack):
    subject = study(drop_last=True, batch_size=32)
    with pytest.raises(InputError, match="no step"):
        train(subject, masks(3), range(3), stack)


def test_augmentation_does_what_it_says():
    x = torch.arange(2 * 5 * 5.0).view(2, 5, 5, 1)
    flipped = _augment(x, {"flip": torch.tensor([1, 0])})
    torch.testing.assert_close(flipped[0], x[0].flip(1))
    torch.testing.assert_close(flipped[1], x[1])
    moved = _augment(x, {"shift": torch.tensor([[1, 0], [0, -2]])})
    torch.testing.assert_close(moved[0, :4], x[0, 1:])
    torch.testing.assert_close(moved[0, 4], x[0, 3])  # reflected at the edge
    torch.testing.assert_close(moved[1, :, 2:], x[1, :, :3])
    hole = {
        "cutout_row": torch.tensor([1, 0]),
        "cutout_column": torch.tensor([3, 0]),
        "cutout_size": torch.tensor([2, 2]),
    }
    cut = _augment(x + 1, hole)
    assert (cut == 0).sum(dim=(1, 2, 3)).tolist() == [4, 4]
    assert (cut[0, 1:3, 3:5] == 0).all()


def test_draws_stay_in_range_and_repeat():
    def draw():
        return draw_augmentation(Augment(True, 2, 3), 500, (8, 8, 1), torch.Generator().manual_seed(1))

    first, second = draw(), draw()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key])
    assert set(first["flip"].tolist()) == {0, 1}
    assert (first["shift"].min(), first["shift"].max()) == (-2, 2)
    assert (first["cutout_row"].min(), first["cutout_row"].max()) == (0, 5)
    assert draw_augmentation(None, 5, (8, 8, 1), torch.Generator()) == {}


class Counts(nn.Module):
    """Its forward pass cannot be recorded: it asks for a number."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x):
        return self.linear(x.flatten(1)) if x.sum().item() > -1e30 else self.linear(-x.flatten(1))


def test_networks_that_cannot_be_stacked_stay_with_the_loop():
    subject = study(Counts)
    assert subject.trainer().choose(masks(2), np.arange(2))["stack"] == 1
    assert np.isfinite(train(subject, masks(1), [0])[0]).all()


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("model", MODELS)
def test_a_recorded_step_is_the_step(model, precision):
    """Replaying the recording gives the bits of the step itself, for other batches and rates too."""
    from whence.training.convolution import stacking
    from whence.training.recorded import stacked_step
    from whence.training.stacked import _fresh, _stack
    from whence.training.step import Batch, Step

    trainer = study(model, precision=precision, label_smoothing=0.1).trainer()
    state = _stack([_fresh(trainer.step, seed) for seed in range(3)], trainer.device)
    mapped = torch.func.vmap(
        Step(trainer.model, trainer.recipe, trainer.mixed, transformed=True),
        in_dims=(0, Batch(0, 0, None), 0),
    )
    generator = torch.Generator().manual_seed(0)
    for rate in (0.1, 0.02, 0.3):
        index = torch.randint(0, N, (3, 8), generator=generator)
        batch = Batch(trainer.data.inputs(index), trainer.data.y[index], torch.tensor(rate))
        weights = torch.rand(3, 8, generator=generator)
        with stacking(trainer.device):
            expected = mapped(state, batch, weights)
        state = stacked_step(trainer.step, state, batch, weights)(state, *batch, weights)
        for key, value in {**expected.parameters, **expected.buffers}.items():
            assert torch.equal({**state.parameters, **state.buffers}[key], value), key
    assert len(trainer.step.recordings) == 1
