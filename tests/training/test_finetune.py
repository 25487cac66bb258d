"""Given models trained further: the step with an objective and answers of its own, in evaluation mode."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.training.studies import CLASSES, N, study
from whence.errors import InputError
from whence.study import SGD, Adam
from whence.study.recipe import Stairs
from whence.training.finetune import Finetuner


@dataclass(frozen=True)
class Squares:
    def __call__(self, logits, answers):
        return (logits - answers).square().mean(-1)


def start(tuner, count=2):
    return tuner.fresh(range(count))


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_it_is_plain_training_in_evaluation_mode(model):
    tuner = Finetuner(study(model))
    state = start(tuner)
    points = torch.tensor([[0, 1, 1, 5, 9], [3, 3, 3, 8, 2]])
    answers = torch.randn(2, 5, CLASSES)
    found = tuner.teach(
        state, points, answers, Squares(), [0, 1], epochs=3, batch_size=5, optimizer=SGD(0.1, 0.9),
        schedule=Stairs(0.5, 3),
    )  # fmt: skip
    for i, own in enumerate(tuner.unload(state)):
        network = nn.Module.eval(tuner.recipe.model())
        with torch.no_grad():
            for name, tensor in (*network.named_parameters(), *network.named_buffers()):
                tensor.copy_(own[name])
        optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9)
        x = tuner.data.inputs(points[i])
        for epoch in range(3):
            optimizer.param_groups[0]["lr"] = 0.1 * 0.5**epoch
            optimizer.zero_grad()
            Squares()(network(x), answers[i]).mean().backward()
            optimizer.step()
        after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, tensor in tuner.unload(found)[i].items():
            torch.testing.assert_close(tensor, after[name].detach(), rtol=1e-3, atol=1e-5)


def test_moments_go_on_from_call_to_call():
    tuner = Finetuner(study("mlp"))
    state, points = start(tuner), torch.arange(6).expand(2, -1)
    options = {"batch_size": 6, "optimizer": Adam(1e-2)}
    once = tuner.teach(state, points, None, None, [0, 1], epochs=4, **options)
    twice = tuner.teach(state, points, None, None, [0, 1], epochs=2, **options)
    assert twice.t.tolist() == [2, 2] and set(twice.moments) == {"mean", "square"}
    twice = tuner.teach(twice, points, None, None, [0, 1], epochs=2, **options)
    for name, value in once.parameters.items():
        torch.testing.assert_close(twice.parameters[name], value)
    other = tuner.teach(twice, points, None, None, [0, 1], epochs=1, batch_size=6, optimizer=SGD(0.1))
    assert other.moments == {} and other.t.tolist() == [1, 1]


def test_recordings_are_shared_between_rates_and_epochs_only():
    tuner = Finetuner(study("mlp"))
    state, points = start(tuner), torch.arange(6).expand(2, -1)

    def teach(objective=None, answers=None, epochs=1, optimizer=SGD(0.1)):
        tuner.teach(
            state, points, answers, objective, [0, 1], epochs=epochs, batch_size=6, optimizer=optimizer
        )
        return len(tuner._recordings)

    assert [teach(), teach(epochs=2), teach(optimizer=SGD(0.3))] == [1, 1, 1]
    assert teach(optimizer=SGD(0.1, weight_decay=0.1)) == 2
    answers = torch.zeros(2, 6, CLASSES)
    assert [teach(Squares(), answers), teach(Squares(), answers)] == [3, 3]


def test_float64_stays_float64():
    tuner = Finetuner(study("conv"), dtype=torch.float64)
    state = start(tuner)
    points = torch.arange(N).expand(2, -1)
    state = tuner.teach(state, points, None, None, [0, 1], epochs=1, batch_size=8, optimizer=Adam(1e-2))
    kinds = {value.dtype for value in (*state.parameters.values(), tuner.logits(state))}
    assert kinds == {torch.float64}


def test_models_of_another_network_are_refused():
    tuner = Finetuner(study("mlp"))
    with pytest.raises(InputError, match="received 0 models"):
        tuner.load([])
    model = tuner.unload(start(tuner))[0]
    with pytest.raises(InputError, match=r"lacks '1\.weight' in the right shape"):
        tuner.load([{**model, "1.weight": torch.zeros(2, 2)}])
