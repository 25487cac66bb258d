"""Training on a GPU: as on a CPU but for rounding, bit for bit again on the same device, kept apart from the
user's random state and settings."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.gpu.cuda import DEVICE, apart, needs_cuda
from tests.training.studies import MODELS, N, images, masks, study
from whence.study import SGD, Augment, Recipe, Study
from whence.training import bag_of_embeddings, dynamics, features, mlp, recorded, resnet9, train
from whence.training.contrastive import pretrain
from whence.training.finetune import Finetuner
from whence.training.reproducible import reproducible

pytestmark = needs_cuda


def outputs(subject, rows, seeds, device, stack=1):
    trainer = subject.trainer(device, engine={"stack": stack})
    return np.stack([run.outputs["margin"] for run in trainer.train(rows, np.asarray(seeds))])


@pytest.mark.parametrize("model", MODELS)
def test_a_captured_step_gives_the_bits_of_a_recorded_one(model, monkeypatch):
    rows, seeds = masks(4), range(4)
    subject, other = study(model), study(model)
    captured = [outputs(subject, rows, seeds, DEVICE, 4) for _ in range(2)]
    (recording,) = subject.trainer(DEVICE).step.recordings.values()
    assert isinstance(recording, recorded._Captured)

    def refuse(*given):
        raise RuntimeError("not captured")

    monkeypatch.setattr(recorded, "_Captured", refuse)
    plain = outputs(other, rows, seeds, DEVICE, 4)
    for found in captured:
        np.testing.assert_array_equal(found, plain)


def colour(**options):
    """32 x 32 colour images and the ResNet-9, narrow."""
    rng = np.random.default_rng(0)
    labels = np.arange(N + 7) % 10
    pictures = rng.integers(0, 256, (N + 7, 32, 32, 3)) // 2 + 12 * labels[:, None, None, None]
    pictures = pictures.astype(np.uint8)
    recipe = Recipe(partial(resnet9, width=8), 3, 16, SGD(0.1, 0.9), label_smoothing=0.1, **options)
    return Study((pictures[:N], labels[:N]), (pictures[N:], labels[N:]), recipe, ["margin"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("options", [{}, {"subset": "weighted"}, {"augment": Augment(True, 1, 2)}])
def test_a_gpu_trains_as_a_cpu(model, stack, options):
    subject, rows, seeds = study(model, **options), masks(4), range(4)
    expected = outputs(subject, rows, seeds, "cpu")
    assert apart(outputs(subject, rows, seeds, DEVICE, stack), expected) < 5e-3


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("model", [*MODELS, "resnet9"])
@pytest.mark.parametrize("stack", [1, 4])
def test_the_same_bits_again_in_any_company(model, stack, precision):
    options = {"precision": precision, "augment": Augment(True, 2, 2)}
    subject = colour(**options) if model == "resnet9" else study(model, **options)
    rows, seeds = masks(6), np.arange(6)
    first = outputs(subject, rows, seeds, DEVICE, stack)
    np.testing.assert_array_equal(outputs(subject, rows, seeds, DEVICE, stack), first)
    backwards = outputs(subject, rows[::-1].copy(), seeds[::-1].copy(), DEVICE, stack)
    np.testing.assert_array_equal(backwards[::-1], first)
    np.testing.assert_array_equal(outputs(subject, rows[[4]], seeds[[4]], DEVICE, stack)[0], first[4])


@pytest.mark.parametrize("stack", [1, 4])
def test_mixed_precision_is_near_and_chosen_where_the_device_has_it(stack):
    rows, seeds = masks(4), range(4)
    exact, mixed, auto = (
        outputs(study("conv", precision=kind), rows, seeds, DEVICE, stack)
        for kind in ("float32", "mixed", "auto")
    )
    assert 0 < apart(mixed, exact) < 0.1
    np.testing.assert_array_equal(auto, mixed if torch.cuda.is_bf16_supported(False) else exact)


def test_dropout_follows_the_seed():
    subject = study(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 3)))
    rows = masks(3)
    first = outputs(subject, rows, [5, 6, 7], DEVICE)
    np.testing.assert_array_equal(outputs(subject, rows[[2]], [7], DEVICE)[0], first[2])
    assert not np.array_equal(outputs(subject, rows[[2]], [8], DEVICE)[0], first[2])


def test_random_states_and_settings_are_the_users():
    def drawn():
        return torch.rand(2), torch.rand(2, device=DEVICE)

    cudnn = torch.backends.cudnn
    torch.manual_seed(3)
    expected = drawn()
    before = cudnn.deterministic, cudnn.benchmark
    torch.manual_seed(3)
    for stack in (1, 2):
        outputs(study("conv"), masks(2), [1, 2], DEVICE, stack)
    outputs(study("conv"), masks(2), [1, 2], "cpu")
    for one, other in zip(drawn(), expected, strict=True):
        assert torch.equal(one, other)
    assert (cudnn.deterministic, cudnn.benchmark) == before


def test_float32_convolutions_are_float32():
    torch.manual_seed(0)
    x, weight = torch.randn(8, 64, 16, 16, device=DEVICE), torch.randn(64, 64, 3, 3, device=DEVICE)
    exact = torch.conv2d(x.double(), weight.double(), padding=1)
    with reproducible(x.device):
        found = torch.conv2d(x, weight, padding=1)
    assert float((found - exact).norm() / exact.norm()) < 2e-6  # rounded to TF32 it would be near 3e-4


def test_the_choice_names_the_device_and_a_stack_that_trains():
    subject = study("logistic")
    choice = subject.trainer(DEVICE).choose(masks(2), np.arange(2))
    assert choice["device"] == "cuda" and choice["seconds_per_model"] > 0
    run = next(iter(subject.trainer(DEVICE, choice).train(masks(1), np.array([0]), keep_states=True)))
    assert all(tensor.device.type == "cpu" for tensor in run.state.values())


def test_a_network_its_features_and_its_dynamics():
    subject = study("conv", epochs=2)
    model = train(subject, device=DEVICE)
    assert next(model.parameters()).is_cuda
    for found, expected in zip(features(subject, device=DEVICE), features(subject), strict=True):
        assert apart(found, expected) < 5e-3
    found, expected = dynamics(subject, device=DEVICE), dynamics(subject)
    assert apart(found.margin, expected.margin) < 5e-3
    assert apart(found.classes, expected.classes) < 5e-3


def test_contrastive_pretraining_repeats():
    subject = study("conv")
    first, second = (pretrain(subject, epochs=2, batch_size=16, device=DEVICE) for _ in range(2))
    x = torch.randn(4, 1, 8, 8, device=DEVICE)
    with torch.no_grad():
        assert first(x).shape == (4, 128)
        assert float((first(x) - second(x)).abs().max()) < 1e-3 * float(first(x).abs().max())


def test_given_models_are_trained_further():
    subject = study("conv")
    here, there = Finetuner(subject), Finetuner(subject, DEVICE)
    mask, points = torch.ones(N, dtype=torch.bool), torch.arange(20).expand(2, -1)
    models = here.unload(here.retrain(mask, [0, 1]))
    found = []
    for tuner in (here, there):
        state = tuner.teach(
            tuner.load(copy.deepcopy(models)), points, None, None, [3, 4],
            epochs=2, batch_size=8, optimizer=SGD(0.01, 0.9),
        )  # fmt: skip
        squares = tuner.squared_gradients(state, torch.arange(N))
        both = torch.cat([value.flatten() for value in squares.values()])
        found.append((tuner.logits(state).cpu(), tuner.logits(state, points).cpu(), both.cpu()))
        assert all(tensor.device.type == "cpu" for tensor in tuner.unload(state)[0].values())
    for expected, result in zip(*found, strict=True):
        assert apart(result, expected) < 5e-3
    assert apart(there.logits(there.retrain(mask, [0])).cpu(), here.logits(here.retrain(mask, [0]))) < 5e-3


def test_float_inputs_and_tokens_train_too():
    rng = np.random.default_rng(0)
    labels = images()[1]
    x = rng.normal(size=(N + 7, 5)).astype(np.float32) + labels[:, None]
    tokens = rng.integers(0, 20, (N + 7, 6)) % (4 + 5 * labels[:, None])
    for inputs, model in ((x, partial(mlp, 5, 3, (8,))), (tokens, partial(bag_of_embeddings, 20, 3, 4))):
        subject = Study(
            (inputs[:N], labels[:N]), (inputs[N:], labels[N:]), Recipe(model, 3, 8, SGD(0.1, 0.9)), ["margin"]
        )
        expected = outputs(subject, masks(3), range(3), "cpu")
        for stack in (1, 2):
            assert apart(outputs(subject, masks(3), range(3), DEVICE, stack), expected) < 5e-3
