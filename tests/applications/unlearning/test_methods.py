"""Every way to unlearn: weights change, statistics do not, company does not matter, cost is what is done."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.applications.unlearning.studies import FORGET, N, attribution, bases, study
from whence.applications.unlearning import (
    SSD,
    Ascent,
    AscentDescent,
    DatamodelDirect,
    DatamodelMatching,
    Descent,
    Distillation,
    KernelMatching,
    RandomLabels,
    Request,
    Retraining,
    Scrub,
    objectives,
)
from whence.errors import InputError
from whence.training import train
from whence.training.finetune import Finetuner

METHODS = {
    "descent": Descent(1e-2, 2, 8),
    "ascent": Ascent(1e-2, 2, 8),
    "ascent and descent": AscentDescent(1e-2, 2, 1, 4, 8),
    "scrub": Scrub(1e-2, 2, 1, forget_batch=4, batch_size=8),
    "ssd": SSD(1e-4, 1e-4),
    "random labels": RandomLabels(1e-2, 2, 8, keeping=2),
    "distillation": Distillation(1e-2, 2, 8, keeping=2),
    "retraining": Retraining(),
}


def methods(subject):
    return {
        **METHODS,
        "matching": DatamodelMatching(attribution=attribution(subject), lr=1e-2, epochs=2, keeping=2),
        "kernel": KernelMatching(attribution=attribution(subject)),
    }


@pytest.fixture(scope="module", params=["mlp", "conv"])
def subject(request):
    return study(request.param)


@pytest.fixture(scope="module")
def models(subject):
    return bases(subject)


@pytest.fixture(scope="module")
def plain():
    subject = study()
    return subject, bases(subject)


def names(model):
    return [key for key in model if "running" not in key and "tracked" not in key]


@pytest.mark.parametrize("name", [*METHODS, "matching", "kernel"])
def test_weights_change_and_statistics_do_not(subject, models, name):
    found = methods(subject)[name].unlearn(models, subject, FORGET)
    for old, new in zip(models, found, strict=True):
        assert any(not torch.equal(old[key], new[key]) for key in names(old))
        assert all(torch.isfinite(value).all() for value in new.values())
        statistics = set(old) - set(names(old))
        if name != "retraining":
            assert all(torch.equal(old[key], new[key]) for key in statistics)
    assert not torch.equal(*(torch.cat([m[key].flatten() for key in names(m)]) for m in found[:2]))


@pytest.mark.parametrize("name", [*METHODS, "matching", "kernel"])
def test_company_and_order_do_not_matter(plain, name):
    subject, models = plain
    method = methods(subject)[name]
    together = method.unlearn(models, subject, FORGET, seeds=[5, 6, 7])
    turned = method.unlearn(models[::-1], subject, FORGET[::-1], seeds=[7, 6, 5])[::-1]
    for one, other in zip(together, turned, strict=True):
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-5)


def test_the_wrapper_changes_outputs_by_the_attribution_and_no_weight(subject, models):
    scores = attribution(subject)
    before = [{key: value.clone() for key, value in model.items()} for model in models]
    found = DatamodelDirect(attribution=scores).predict(models, subject, FORGET)
    tuner = Finetuner(subject)
    old = objectives.centred(tuner.logits(tuner.load(models)))
    change = scores.effect_of_removing(FORGET)
    change -= change.mean(1, keepdims=True)
    np.testing.assert_allclose(found - old, np.broadcast_to(change, found.shape), atol=2e-5)
    assert all(torch.equal(b[key], m[key]) for b, m in zip(before, models, strict=True) for key in m)


def test_a_single_network_is_left_alone_and_a_changed_copy_returned(subject):
    network = train(subject, seed=3)
    old = {key: value.clone() for key, value in network.state_dict().items()}
    changed = Ascent(1e-2, 3).unlearn(network, subject, FORGET)
    assert isinstance(changed, nn.Module) and not changed.training
    assert all(torch.equal(old[key], value) for key, value in network.state_dict().items())
    x = Finetuner(subject).data.inputs(torch.tensor(FORGET))
    labels = torch.as_tensor(subject.train_labels[FORGET])
    with torch.no_grad():
        loss = [nn.functional.cross_entropy(model(x), labels) for model in (network, changed)]
    assert loss[1] > loss[0]


def test_evaluation_agrees_with_the_trainer(subject, models):
    tuner = Finetuner(subject)
    logits = tuner.logits(tuner.load(models))
    trainer = subject.trainer()
    for i, model in enumerate(models):
        torch.testing.assert_close(logits[i], trainer.logits(model), rtol=1e-4, atol=1e-4)
    points = torch.tensor([[3, 3, 0]] * len(models))
    torch.testing.assert_close(tuner.logits(tuner.load(models), points), logits[:, [3, 3, 0]])


def test_retraining_is_the_trainer_s_own(subject):
    mask = np.ones(N, dtype=bool)
    mask[FORGET] = False
    runs = subject.trainer(engine={"stack": 2}).train(mask[None].repeat(2, 0), np.array([4, 9]), True)
    found = Retraining().unlearn(bases(subject, 2), subject, FORGET, seeds=[4, 9])
    for run, model in zip(runs, found, strict=True):
        for key, value in run.state.items():
            torch.testing.assert_close(model[key], value, rtol=1e-4, atol=1e-5)


def test_the_squared_gradients_are_those_of_autograd(subject, models):
    tuner = Finetuner(subject)
    state = tuner.load(models[:1])
    found = tuner.squared_gradients(state, torch.arange(4))
    expected = {key: torch.zeros_like(value[0]) for key, value in found.items()}
    for i in range(4):
        leaves = {key: value[0].clone().requires_grad_() for key, value in state.parameters.items()}
        buffers = {key: value[0] for key, value in state.buffers.items()}
        x = tuner.data.inputs(torch.tensor([i]))
        logits = torch.func.functional_call(tuner.network, (leaves, buffers), (x,))
        nn.functional.cross_entropy(logits, tuner.data.y[i : i + 1]).backward()
        for key, leaf in leaves.items():
            expected[key] += leaf.grad.square() / 4
    for key, value in found.items():
        torch.testing.assert_close(value[0], expected[key], rtol=1e-3, atol=1e-7)


def test_ssd_dampens_what_matters_to_the_forget_set_only():
    subject = study()
    models = bases(subject, 1)
    tuner = Finetuner(subject)
    state = tuner.load(models)
    whole, mine = (tuner.squared_gradients(state, torch.tensor(at)) for at in (list(range(N)), FORGET))
    found = SSD(2.0, 1.0).unlearn(models, subject, FORGET)[0]
    for key, old in models[0].items():
        chosen = mine[key][0] > 2 * whole[key][0]
        assert torch.equal(found[key][~chosen], old[~chosen])
        expected = old[chosen] * (whole[key][0] / mine[key][0])[chosen]
        torch.testing.assert_close(found[key][chosen], expected)
    assert any((mine[key] > 2 * whole[key]).any() for key in models[0])


def test_objectives():
    logits, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    ce = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(objectives.Ascent()(logits, labels), -ce)
    shifted = logits + torch.randn(
        5, 1, dtype=torch.float64
    )  # softmax does not see it, and nor does matching
    squares = objectives.CentredSquares()
    torch.testing.assert_close(squares(logits, teacher), squares(shifted, teacher))
    assert squares(logits, objectives.centred(logits)).abs().max() < 1e-15
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(logits / 2, 1)
    divergence = (p * (p / q).log()).sum(1)
    torch.testing.assert_close(objectives.Divergence(2.0, -3.0)(logits, teacher), -12 * divergence)
    both = torch.stack([teacher, nn.functional.one_hot(labels, 3).double()], dim=1)
    expected = 0.1 * 4 * divergence + 0.9 * ce
    torch.testing.assert_close(objectives.Taught(0.1, 0.9, 2.0)(logits, both), expected)


def test_costs_are_counted_in_examples():
    subject = study()
    retraining = 8 * (N - 3)
    share = {name: method.cost(subject, FORGET) for name, method in methods(subject).items()}
    assert share["retraining"].share == 1
    assert share["descent"].share == pytest.approx(2 * 27 / retraining)
    assert share["ascent"].share == pytest.approx(2 * 3 / retraining)
    assert share["ascent and descent"].share == pytest.approx((3 + 2 * 27) / retraining)
    assert share["ssd"].share == pytest.approx((N + 3) / retraining)
    assert share["random labels"].share == pytest.approx(2 * 9 / retraining)
    assert share["scrub"].share == pytest.approx((3 + 2 * 27 + N / 3) / retraining)
    assert share["distillation"].share == pytest.approx((2 * 9 + 9 / 3) / retraining)
    matching = share["matching"]
    assert matching.share == pytest.approx((2 * 9 + 9 / 3) / retraining) and matching.before == 50
    assert str(matching) == f"{matching.share:.1%} of a retraining, and 50 retrainings beforehand"
    direct = DatamodelDirect(attribution=attribution(subject)).cost(subject, FORGET)
    assert (direct.share, direct.before) == (0, 50)


@pytest.mark.parametrize(
    "kind", [Descent, Ascent, AscentDescent, Scrub, SSD, RandomLabels, Distillation, DatamodelMatching]
)
def test_grids_are_small_and_differ(kind):
    grid = kind.grid(**({"attribution": attribution(study())} if kind is DatamodelMatching else {}))
    assert 3 <= len(grid) <= 9 and len({str(method.describe()) for method in grid}) == len(grid)


def test_random_labels_are_wrong_and_only_on_the_forget_set():
    subject = study()
    seen = {}

    class Spy(Finetuner):
        def teach(self, state, points, answers, *rest, **more):
            seen.update(points=points, answers=answers)
            return state

    tuner = Spy(subject)
    request = Request.of(subject, FORGET)
    RandomLabels(keeping=2).edit(tuner, tuner.load(bases(subject, 2)), request, [0, 1])
    own = torch.as_tensor(subject.train_labels)[seen["points"]]
    assert seen["points"][:, :3].tolist() == [FORGET, FORGET]
    assert (seen["answers"][:, :3] != own[:, :3]).all() and (seen["answers"][:, 3:] == own[:, 3:]).all()
    assert not set(seen["points"][:, 3:].flatten().tolist()) & set(FORGET)


def test_bad_input():
    subject = study()
    models = bases(subject, 1)

    def refused(sentence, forget=FORGET, given=models, method=Descent(), **more):
        with pytest.raises(InputError, match=sentence):
            method.unlearn(given, subject, forget, **more)

    refused("the training set lacks", [1, 999])
    refused("nothing is left", range(N))
    refused("more than once", [1, 1])
    refused("empty", [])
    refused("lacks '1.weight'", given=[{"0.weight": torch.zeros(1)}])
    refused("one seed for each", seeds=[1, 2])
    import whence

    plain = whence.Study.from_function(lambda mask, seed: mask[:2] * 1.0, n=4, targets=2)
    with pytest.raises(InputError, match="needs a Recipe"):
        Descent().unlearn(models, plain, [0])
