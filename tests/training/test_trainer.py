"""The trainer: what it refuses before it trains, what it records, how it divides work into stacks."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.training.studies import CLASSES, MODELS, TARGETS, N, masks, study, train
from whence.errors import InputError
from whence.study.outputs import OUTPUTS
from whence.training import BatchNorm2d, RecipeTrainer, mlp


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.linear(x.flatten(1)), x


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: 3, "must return a torch.nn.Module, it returned int"),
        (Pair, "logits as one tensor, it returned tuple"),
        (lambda: flat(nn.Linear(64, 2)), r"logits of shape \(batch, 3\) for 3 classes, received \(1, 2\)"),
        (lambda: nn.Sequential(nn.Linear(8, 3)), r"received \(1, 1, 8, 3\) for a batch of 1"),
        (lambda: flat(nn.Linear(63, 3)), r"cannot read inputs of shape \(1, 1, 8, 8\)"),
        (lambda: flat(BatchNorm2d(64), nn.Linear(64, 3)), "cannot read inputs .* expected 4D input"),
        (lambda: nn.Sequential(nn.Embedding(2, 3)), "cannot read inputs"),
    ],
)
def test_networks_that_do_not_fit_are_refused_at_once(model, says):
    with pytest.raises(InputError, match=says) as caught:
        study(model).trainer()
    assert "\n" not in str(caught.value)


def test_an_exception_of_the_users_factory_is_the_users_own():
    with pytest.raises(ZeroDivisionError):
        study(lambda: 1 / 0).trainer()


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize(
    ("rows", "seeds", "says"),
    [
        (np.ones((2, N - 1)), [0, 1], rf"masks must have shape \(m, {N}\)"),
        (np.zeros((1, N)), [0], "mask 0 keeps no training example"),
        (np.full((1, N), 0.5), [0], "masks must hold 0 and 1 only"),
        (np.ones((2, N)), [0], "one seed for each of 2 masks, received 1"),
        (np.ones((1, N)), [0, 1], "one seed for each of 1 masks, received 2"),
    ],
)
def test_bad_rows_are_refused(rows, seeds, says, stack):
    with pytest.raises(InputError, match=says):
        train(study(), rows, seeds, stack)


def sized(*sizes):
    return np.stack([np.arange(N) < size for size in sizes])


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_one_mask_without_a_step_stops_all_before_any_training(stack, monkeypatch):
    subject = study(drop_last=True, batch_size=16)
    trained = []
    for name in ("train_one", "train_stack"):
        monkeypatch.setattr(f"whence.training.trainer.{name}", lambda *a, **k: trained.append(a))
    with pytest.raises(InputError, match="leaves no step for a subset of 15 examples"):
        train(subject, sized(20, 20, 20, 20, 15), range(5), stack)
    assert not trained


def test_zero_steps_are_refused_wherever_a_run_can_start():
    subject = study(drop_last=True, batch_size=N + 1)
    with pytest.raises(InputError, match="no step"):
        subject.trainer().choose(masks(2), np.arange(2))
    with pytest.raises(InputError, match="no step"):
        whence.training.train(subject)
    with pytest.raises(InputError, match="no step"):
        whence.training.train(study(drop_last=True), np.arange(N) < 7)
    with pytest.raises(InputError, match="no step"):
        study(drop_last=True, batch_size=16).trainer().choose(sized(20, 15), np.arange(2))


@pytest.mark.parametrize("stack", [1, 3])
def test_weighted_runs_with_drop_last_always_have_their_steps(stack):
    subject = study(drop_last=True, batch_size=16, subset="weighted")
    assert np.isfinite(train(subject, sized(1, 5, 20), range(3), stack)).all()


def test_going_on_with_a_bank_of_another_device_is_warned_of():
    with pytest.warns(UserWarning, match="were made on cuda, these are made on cpu.*device='cuda'"):
        study().trainer(engine={"stack": 1, "device": "cuda"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study().trainer(engine={"stack": 1, "device": "cpu"})


def test_stacks_hold_rows_with_equally_many_steps():
    trainer = study().trainer(engine={"stack": 3})
    sizes = [8, 7, 9, 16, 10, 9, 9, 40, 1]  # batches of 8: 1 1 2 2 2 2 2 5 1
    assert trainer._stacks(sized(*sizes)) == [[0, 1, 8], [2, 3, 4], [5, 6], [7]]
    assert study().trainer(engine={"stack": 1})._stacks(sized(*sizes)) == [[i] for i in range(9)]


@pytest.mark.parametrize("stack", [2, 3, 8])
def test_rows_come_in_their_order_whatever_stack_made_them(stack):
    rows = sized(8, 17, 7, 18, 40, 9, 1, 16)
    alone = [train(study(), rows[[i]], [i], stack)[0] for i in range(len(rows))]
    np.testing.assert_array_equal(train(study(), rows, range(len(rows)), stack), np.stack(alone))


@pytest.mark.parametrize("stack", [1, 2, 5])
def test_no_rows_no_runs(stack):
    assert train(study(), np.ones((0, N), bool), [], stack) == []


@pytest.mark.parametrize("stack", [1, 3])
def test_all_outputs_are_recorded_with_their_shapes(stack):
    subject = study("mlp", outputs=tuple(OUTPUTS))
    shapes = subject.output_shapes()
    for run in subject.trainer(engine={"stack": stack}).train(masks(4), np.arange(4)):
        assert list(run.outputs) == list(OUTPUTS)
        for name, values in run.outputs.items():
            assert values.shape == (TARGETS, *shapes[name])
            assert values.dtype == np.float32
        logits = torch.as_tensor(run.outputs["logits"], dtype=torch.float64)
        for name, function in OUTPUTS.items():
            expected = function(logits, torch.as_tensor(subject.target_labels))
            np.testing.assert_allclose(run.outputs[name], expected.numpy(), rtol=1e-4, atol=1e-5)
        assert run.error is None
        assert run.seconds > 0


@pytest.mark.parametrize("model", MODELS)
def test_kept_states_give_the_recorded_outputs_and_agree_between_drivers(model):
    subject, rows = study(model), masks(3)
    both = [
        list(subject.trainer(engine={"stack": stack}).train(rows, np.arange(3), keep_states=True))
        for stack in (1, 2)
    ]
    trainer = subject.trainer()
    for alone, stacked in zip(*both, strict=True):
        assert alone.state.keys() == stacked.state.keys() == trainer.model.state_dict().keys()
        for run in (alone, stacked):
            margin = OUTPUTS["margin"](trainer.logits(run.state), trainer.queries.y)
            np.testing.assert_allclose(margin.numpy(), run.outputs["margin"], rtol=1e-4, atol=1e-5)
        for key, value in alone.state.items():
            torch.testing.assert_close(stacked.state[key], value, rtol=2e-3, atol=2e-4, msg=key)
    assert next(iter(trainer.train(rows, np.arange(3)))).state is None


def test_one_trainer_may_train_and_look_in_any_order():
    subject, rows = study("conv"), masks(2)
    trainer = subject.trainer(engine={"stack": 2})
    first = [run.outputs["margin"] for run in trainer.train(rows, np.arange(2))]
    trainer.choose(rows, np.arange(2))
    trainer.stack = 2
    again = [run.outputs["margin"] for run in trainer.train(rows, np.arange(2))]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("stack", [1, 2])
def test_seeds_of_any_size_are_seeds(stack):
    """Of 63 bits torch's generator on the CPU takes the lower 32: these differ there."""
    rows = masks(1).repeat(4, 0)
    found = train(study("mlp"), rows, [0, 2**63 - 1, 2**32 + 1, 2**62 + 2], stack)
    assert len({tuple(values) for values in np.round(found, 6).tolist()}) == 4


@pytest.mark.parametrize("stack", [1, 3])
def test_a_run_that_blows_up_is_recorded_and_spoils_no_neighbour(stack):
    """A learning rate at which some runs overflow: their outputs are not finite, and no error is raised."""
    subject = study(partial(mlp, 64, CLASSES, (8,)), optimizer=whence.study.SGD(1e30))
    assert not np.isfinite(train(subject, masks(3), range(3), stack)).all()
    single = study("logistic")
    together = train(single, sized(20, 20, 20), range(3), stack)
    np.testing.assert_array_equal(train(single, sized(20), [1], stack)[0], together[1])


@pytest.mark.parametrize("options", [{}, {"subset": "weighted"}, {"precision": "mixed"}, {"drop_last": True}])
def test_the_choice_names_what_it_measured_and_can_be_followed(options):
    subject = study("conv", **options)
    rows, seeds = masks(2), np.arange(2)
    choice = json.loads(json.dumps(subject.trainer().choose(rows, seeds)))
    assert choice["driver"] == ("loop" if choice["stack"] == 1 else "stacked")
    assert choice["stack"] == 1 or str(choice["stack"]) in choice["step_microseconds"]
    assert choice["seconds_per_model"] > 0
    trainer = subject.trainer(engine=choice)
    assert isinstance(trainer, RecipeTrainer)
    assert (trainer.stack, trainer.mixed) == (choice["stack"], choice["mixed"])


def test_a_stack_is_no_larger_than_the_models_that_take_equally_many_steps():
    subject, rows = study(), sized(*[24] * 20, *[12] * 20, *[6] * 20)
    tried = subject.trainer().choose(rows, np.arange(60), 60)["step_microseconds"]
    assert "32" not in tried and "64" not in tried
    assert "32" in subject.trainer().choose(sized(*[24] * 60), np.arange(60), 60)["step_microseconds"]


def test_foreign_batch_norm_is_trained_by_the_loop_alone():
    subject = study(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    )
    assert np.isfinite(train(subject, masks(2), range(2))).all()
    assert subject.trainer().choose(masks(2), np.arange(2))["stack"] == 1
    with pytest.raises(InputError, match=r"cannot be stacked; use whence\.training\.BatchNorm2d"):
        train(subject, masks(2), range(2), stack=2)


def test_mixed_precision_is_about_as_accurate_as_float32():
    accuracy = {}
    for precision in ("float32", "mixed", "auto"):
        subject = study("conv", precision=precision, epochs=6, outputs=("margin_max",))
        runs = subject.trainer(engine={"stack": 4}).train(np.ones((4, N), bool), np.arange(4))
        values = np.stack([run.outputs["margin_max"] for run in runs])
        assert values.dtype == np.float32
        accuracy[precision] = (values > 0).mean()
    assert accuracy["float32"] > 0.8
    assert abs(accuracy["mixed"] - accuracy["float32"]) < 0.15
    assert accuracy["auto"] in (accuracy["mixed"], accuracy["float32"])


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_what_was_left_out_changes_no_bit(model, stack, precision):
    """Float images, which are not rescaled: noise in place of what has weight 0 gives the same weights."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % CLASSES
    pictures = rng.normal(size=(N, 1, 8, 8)).astype(np.float32)
    pictures[range(N), 0, 0, labels] += 4
    mask = rng.random(N) < 0.5
    noise = np.where(mask[:, None, None, None], pictures, 100 * rng.normal(size=pictures.shape)).astype(
        np.float32
    )
    recipe = study(model, subset="weighted", precision=precision).recipe
    runs = []
    for x in (pictures, noise):
        subject = whence.Study((x, labels), (pictures[:TARGETS], labels[:TARGETS]), recipe)
        trainer = subject.trainer(engine={"stack": stack})
        runs.append(list(trainer.train(np.stack([mask] * 2), np.array([1, 2]), keep_states=True)))
    for before, after in zip(*runs, strict=True):
        np.testing.assert_array_equal(before.outputs["margin"], after.outputs["margin"])
        for key, value in before.state.items():
            assert torch.equal(value, after.state[key]), key
