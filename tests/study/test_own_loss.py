"""A recipe with a loss of its own: what the engine and the gradient methods make of it, against cross-entropy
written by hand, plain formulas and autograd."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.errors import InputError
from whence.methods import MAGIC, TRAK, GradDot, Influence
from whence.study.variants import self_targets, with_outputs, with_targets, with_train
from whence.training import mlp

N, T, LENGTH, VOCABULARY = 30, 6, 5, 7


def by_hand(logits, labels):
    return torch.logsumexp(logits, -1) - logits.gather(-1, labels[..., None]).squeeze(-1)


def next_token(logits, answers):
    each = torch.logsumexp(logits, -1) - logits.gather(-1, answers.clamp_min(0)[..., None]).squeeze(-1)
    counted = (answers >= 0).to(each.dtype)
    return (each * counted).sum(-1) / counted.sum(-1)


@dataclasses.dataclass(frozen=True)
class Power:
    """|prediction - answer| to a power, averaged over an example's numbers."""

    exponent: float = 2.0

    def __call__(self, outputs, answers):
        return (outputs - answers).abs().pow(self.exponent).mean(-1)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(VOCABULARY, 6), nn.Linear(6, VOCABULARY)

    def forward(self, x):
        return self.out(torch.tanh(self.embed(x).cumsum(1)))


def points(seed=0, classes=2):
    random = np.random.default_rng(seed)
    x = random.normal(size=(N + T, 4)).astype(np.float32)
    return x, (x[:, 0] + 0.5 * random.normal(size=N + T) > 0).astype(int)


def recipe(model=lambda: mlp(4, 2, (5,)), **changes):
    given = {"epochs": 3, "batch_size": 8, "optimizer": whence.SGD(0.2, momentum=0.9), **changes}
    return whence.Recipe(model, **given)


def classified(**changes):
    x, y = points()
    return whence.Study((x[:N], y[:N]), (x[N:], y[N:]), recipe(**changes), ["loss"])


def sequences(seed=0):
    random = np.random.default_rng(seed)
    tokens = random.integers(0, VOCABULARY, (N + T, LENGTH + 1))
    answers = np.where(random.random((N + T, LENGTH)) < 0.3, -100, tokens[:, 1:])
    answers[:, -1] = tokens[:, -1]
    given = recipe(Tokens, loss=next_token)
    return whence.Study((tokens[:N, :-1], answers[:N]), (tokens[N:, :-1], answers[N:]), given)


def policies():
    random = np.random.default_rng(1)
    x = random.normal(size=(N + T, 4)).astype(np.float32)
    y = np.stack([x[:, 0], x[:, 1] - x[:, 2]], 1)
    return whence.Study((x[:N], y[:N]), (x[N:], y[N:]), recipe(loss=Power()))


def masks(count=3, seed=0):
    return np.random.default_rng(seed).random((count, N)) < 0.7


def trained(study, stack=1, given=None):
    trainer = study.trainer(engine={"stack": stack})
    chosen = masks() if given is None else given
    sizes = {int(m.sum()) for m in chosen}
    assert stack == 1 or len(sizes) == 1
    return np.stack([found.outputs["loss"] for found in trainer.train(chosen, np.arange(len(chosen)))])


def test_cross_entropy_by_hand_trains_the_same_models():
    assert np.allclose(trained(classified()), trained(classified(loss=by_hand)), atol=1e-5)


@pytest.mark.parametrize("make", [sequences, policies], ids=["tokens", "policy"])
def test_a_stack_trains_what_the_loop_trains(make):
    given = np.zeros((4, N), bool)
    for row, mask in enumerate(given):
        mask[np.random.default_rng(row).permutation(N)[:20]] = True
    assert np.allclose(trained(make(), 1, given), trained(make(), 4, given), atol=1e-4)


def test_the_output_is_the_loss_of_each_target_at_the_trained_network():
    study = policies()
    trainer = study.trainer()
    found = next(trainer.train(np.ones((1, N), bool), np.array([0]), keep_states=True))
    outputs = torch.func.functional_call(
        trainer.model.eval(), found.state, (torch.tensor(study.target_inputs),)
    )
    wanted = (outputs - torch.tensor(study.target_answers)).square().mean(1)
    assert np.allclose(found.outputs["loss"], wanted.detach(), atol=1e-6)


def test_a_bank_a_datamodel_and_its_lds(tmp_path):
    study = policies()
    assert study.outputs == ("loss",) and study.class_count is None
    bank = whence.retrain(study, 40, to=tmp_path / "bank.zarr", workers=0, progress=False)
    found = whence.methods.Datamodel("ridge").attribute(bank)
    assert found.output == "loss" and found.weight.shape == (T, N)
    assert whence.retrain(policies(), 40, to=tmp_path / "bank.zarr", workers=0, progress=False) is not None


@pytest.mark.parametrize(
    "method",
    [
        Influence("explicit", checkpoints=1),
        Influence("cg", 0.1, checkpoints=1),
        GradDot(2),
        MAGIC(check=False),
    ],
    ids=["explicit", "cg", "graddot", "metagradient"],
)
def test_gradient_methods_agree_with_cross_entropy(method):
    ours, theirs = (
        method.attribute(classified(subset="weighted", loss=loss), "loss").weight for loss in (by_hand, None)
    )
    assert np.abs(ours).max() > 0
    assert np.allclose(ours, theirs, rtol=2e-3, atol=2e-4 * np.abs(theirs).max())


def whole_gradients(study, state, inputs, answers):
    model, loss = study.recipe.model().eval(), study.recipe.loss
    state = {k: torch.as_tensor(v) for k, v in state.items()}
    rows = []
    for x, y in zip(torch.as_tensor(inputs), torch.as_tensor(answers), strict=True):

        def value(parameters, x=x, y=y):
            return loss(torch.func.functional_call(model, parameters, (x[None],)), y[None])[0]

        rows.append(torch.cat([g.flatten() for g in torch.func.grad(value)(state).values()]))
    return torch.stack(rows).double().numpy()


@pytest.mark.parametrize("make", [sequences, policies], ids=["tokens", "policy"])
def test_trak_is_its_formula_on_whole_gradients_of_the_loss(make):
    study = make()
    state = next(study.trainer().train(np.ones((1, N), bool), np.array([0]), keep_states=True)).state
    ridge = 1e-2
    phi = whole_gradients(study, state, study.train_inputs, study.train_answers)
    asked = whole_gradients(study, state, study.target_inputs, study.target_answers)
    gram = phi.T @ phi + ridge * np.square(phi).sum() * np.eye(phi.shape[1])
    wanted = -asked @ np.linalg.solve(gram, phi.T)
    found = TRAK([state], ridge=ridge).attribute(study).weight
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    # an example lowers the loss of its own likes, itself first
    assert (np.diag(TRAK([state], ridge=ridge).attribute(self_targets(study)).weight) < 0).all()


def test_groups_of_targets_score_as_their_mean(tmp_path):
    study = sequences()
    groups = {"first": [0, 1, 2], "last": [5]}
    for settings in ({}, {"projection": 32}, {"projection": 32, "store": tmp_path / "store"}):
        each = TRAK(2, **settings).attribute(study)
        found = TRAK(2, groups=groups, **settings).attribute(study)
        assert found.target_ids.tolist() == ["first", "last"] and "mean loss" in found.units
        wanted = np.stack([each.weight[:3].mean(0), each.weight[5]])
        assert np.allclose(found.weight, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    best = TRAK(2, groups=groups, projection=32, store=tmp_path / "store").top(study, 3)
    assert list(best) == ["first", "last"]


def test_groups_are_checked_before_anything_is_trained():
    with pytest.raises(InputError, match=r"groups\['a'\] has 99, which is no target"):
        TRAK(2, groups={"a": [99]}).attribute(sequences())
    with pytest.raises(InputError, match="at least one target id"):
        TRAK(2, groups={"a": []})


def test_ekfac_takes_the_empirical_fisher_matrix():
    found = Influence("ekfac", checkpoints=1).attribute(policies())
    assert np.isfinite(found.weight).all() and found.output == "loss"


def test_variants_keep_the_loss():
    study = policies()
    x, y = study.train_inputs, study.train_answers
    assert np.array_equal(with_targets(study, (x[:3], y[:3])).target_answers, y[:3])
    assert np.array_equal(with_train(study, (x, -y)).train_answers, -y)
    assert with_outputs(study, ["loss"]).outputs == ("loss",)
    with pytest.raises(InputError, match="is all there is with a loss of your own"):
        with_outputs(study, ["margin"])


def test_fingerprints_tell_losses_apart_and_leave_old_ones_alone():
    prints = {
        whence.Study(
            (np.eye(3, 4, dtype=np.float32), np.zeros((3, 2))),
            (np.eye(1, 4, dtype=np.float32), np.zeros((1, 2))),
            recipe(loss=Power(p)),
        ).fingerprint
        for p in (1.0, 2.0)
    }
    assert len(prints) == 2
    assert "loss" not in recipe().describe()


def study_of(answers=None, targets=None, outputs=None, loss=None):
    x, _ = points()
    answers = np.zeros((N, 2)) if answers is None else answers
    targets = np.zeros((T, 2)) if targets is None else targets
    return whence.Study((x[:N], answers), (x[N:], targets), recipe(loss=loss or Power()), outputs)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: study_of(np.full((N, 2), np.nan)), "train answers must be finite numbers, .* with NaN"),
        (lambda: study_of(np.zeros((N - 1, 2))), "30 inputs but answers of shape"),
        (lambda: study_of(np.array(["a"] * N)), "train answers must be finite numbers, received dtype"),
        (lambda: study_of(targets=np.zeros((T, 3))), r"targets must have answers like .* shape \(2,\)"),
        (lambda: study_of(targets=np.zeros((T, 2), int)), "targets must have answers like .* float32"),
        (lambda: study_of(outputs=["margin"]), "is all there is with a loss of your own; received"),
        (lambda: recipe(loss=3), "loss must be a function of outputs and answers, received int"),
        (lambda: recipe(loss=Power(), label_smoothing=0.1), "label_smoothing=0.1 is for cross-entropy"),
        (lambda: study_of(loss=lambda o, a: (o - a).mean()).trainer(), "one number for each example"),
        (lambda: study_of(loss=lambda o, a: o).trainer(), r"it returned \(1, 2\)"),
        (lambda: study_of(loss=lambda o, a: o @ a).trainer(), "recipe.loss cannot take outputs of shape"),
        (lambda: TRAK(1).attribute(study_of(), "margin"), "lacks the output 'margin'"),
    ],
)
def test_bad_input_is_said_before_anything_is_trained(make, says):
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
