"""Guided datamodels: each step against a direct computation, what they gain, and bad input."""

import numpy as np
import pytest
import torch

import whence
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods import Datamodel, GuidedDatamodel
from whence.methods.guided import _factors, _residual, _stack, guide

N, TARGETS = 40, 12


def world(models=200, noise=0.5, seed=0):
    """Masks, outputs and the truth: a prior times a factor per training example, and something of each
    target's own."""
    random = np.random.default_rng(seed)
    prior = random.normal(size=(TARGETS, N))
    truth = 0.3 * prior * (1 + random.normal(size=N)) + 0.02 * random.normal(size=(TARGETS, N))
    masks = np.zeros((models, N), bool)
    for row in masks:
        row[random.permutation(N)[: N // 2]] = True
    outputs = masks @ truth.T + noise * random.normal(size=(models, TARGETS))
    return masks, outputs, prior, truth


def centred(*arrays):
    return [torch.as_tensor(np.asarray(a, float) - np.asarray(a, float).mean(0)) for a in arrays]


def bank_of(tmp_path, masks_seen=120, truth=None):
    _, _, prior, found = world()
    truth = found if truth is None else truth

    def train(mask, seed):
        return truth @ mask + np.random.default_rng(seed).normal(size=TARGETS)

    study = whence.Study.from_function(train, n=N, targets=TARGETS)
    bank = whence.retrain(
        study, masks_seen, to=tmp_path / "bank.zarr", held_out=0.2, workers=0, progress=False
    )
    return study, bank, prior


def own(prior, bank, **how):
    return Attribution(
        prior,
        target_ids=bank.target_ids,
        train_ids=bank.train_ids,
        method="prior",
        output=bank.outputs[0],
        **how,
    )


def test_the_stack_is_pooled_least_squares():
    masks, outputs, prior, _ = world()
    s, y = centred(masks, outputs)
    share = 1 / y.square().mean(0)
    priors = [torch.as_tensor(prior), torch.as_tensor(prior) ** 2]
    design = np.stack([(s @ p.T * share.sqrt()).reshape(-1).numpy() for p in priors], 1)
    gram = design.T @ design
    ridge = 1e-3 * np.trace(gram) / 2 * np.eye(2)
    expected = np.linalg.solve(gram + ridge, design.T @ (y * share.sqrt()).reshape(-1).numpy())
    assert np.allclose(_stack(s, y, priors, share), expected, rtol=1e-8)


def test_factors_are_the_least_squares_of_all_targets_together():
    masks, outputs, prior, _ = world(30)
    s, y = centred(masks, outputs)
    share = 1 / y.square().mean(0)
    start = 0.3 * torch.as_tensor(prior)
    # one row per (retraining, target), one column per training example
    design = torch.einsum("mi,zi,z->mzi", s, start, share.sqrt()).reshape(-1, N).numpy()
    right = ((y - s @ start.T) * share.sqrt()).reshape(-1).numpy()
    gram = design.T @ design
    for penalty, found in zip((0.1, 3.0), _factors(s, y, start, share, (0.1, 3.0)), strict=True):
        ridge = penalty * np.diag(gram).mean() * np.eye(N)
        assert np.allclose(found, np.linalg.solve(gram + ridge, design.T @ right), rtol=1e-6)


def test_no_factors_at_an_infinite_penalty():
    masks, outputs, prior, _ = world()
    s, y = centred(masks, outputs)
    (found,) = _factors(s, y, torch.as_tensor(prior), torch.ones(TARGETS).double(), (np.inf,))
    assert not found.any()


def test_noise_gets_no_residual_datamodel():
    masks, _, _, _ = world(60)
    (s,) = centred(masks)
    noise = torch.as_tensor(np.random.default_rng(1).normal(size=(60, TARGETS)))
    extra, penalty = _residual(s, noise - noise.mean(0), torch.ones(TARGETS).double())
    assert extra.abs().max() < 0.02 or penalty is None


def test_factors_are_recovered():
    masks, outputs, prior, truth = world(noise=0.1)
    s, y = centred(masks, outputs)
    weight, told = guide(s, y, [torch.as_tensor(prior)])
    truth = truth - truth.mean(1, keepdims=True)  # fixed-size subsets say nothing about a shared constant
    found = weight.numpy() - weight.numpy().mean(1, keepdims=True)
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.98
    assert np.isfinite(told["factor_penalty"])


def test_scale_and_sign_of_the_prior_do_not_matter():
    masks, outputs, prior, _ = world(60)
    s, y = centred(masks, outputs)
    first, _ = guide(s, y, [torch.as_tensor(prior)])
    second, _ = guide(s, y, [-1e4 * torch.as_tensor(prior)])
    assert torch.allclose(first, second, rtol=1e-6, atol=1e-8)


def test_ahead_of_prior_and_of_ridge(tmp_path):
    _, bank, prior = bank_of(tmp_path)
    prior = own(prior, bank)
    guided = GuidedDatamodel(prior).attribute(bank)
    scores = whence.evaluate.compare(
        {"guided": guided, "prior": prior, "ridge": Datamodel("ridge").attribute(bank)}, bank, bootstrap=300
    )
    for other in ("prior", "ridge"):
        assert scores.difference("guided", other).interval[0] > 0
    assert guided.calibrated
    assert "prior" in guided.method


def test_a_useless_prior_does_little_harm(tmp_path):
    _, bank, _ = bank_of(tmp_path, 200)
    noise = own(np.random.default_rng(9).normal(size=(TARGETS, N)), bank)
    scores = whence.evaluate.compare(
        {"guided": GuidedDatamodel(noise).attribute(bank), "ridge": Datamodel("ridge").attribute(bank)},
        bank,
        bootstrap=100,
    )
    assert scores.scores["guided"].mean > scores.scores["ridge"].mean - 0.1


def test_the_prior_may_come_in_another_order(tmp_path):
    _, bank, prior = bank_of(tmp_path, 60)
    order, across = np.arange(N)[::-1], np.arange(TARGETS)[::-1]
    turned = Attribution(
        prior[across][:, order],
        target_ids=bank.target_ids[across],
        train_ids=bank.train_ids[order],
        method="prior",
    )
    first = GuidedDatamodel(own(prior, bank)).attribute(bank)
    assert np.allclose(first.weight, GuidedDatamodel(turned).attribute(bank).weight)


def test_held_out_rows_are_not_read(tmp_path):
    _, bank, prior = bank_of(tmp_path, 60)

    class Blind:
        def __getattr__(self, name):
            return getattr(bank, name)

        def select(self, part=None, output=None):
            assert part in ("train", "validation")
            return bank.select(part, output)

    GuidedDatamodel(own(prior, bank)).attribute(Blind())


def test_bad_input(tmp_path):
    _, bank, prior = bank_of(tmp_path, 60)
    with pytest.raises(InputError, match="prior must be an Attribution"):
        GuidedDatamodel([])
    with pytest.raises(InputError, match="received str"):
        GuidedDatamodel("trak")
    with pytest.raises(InputError, match="lacks 1 of the bank's training examples"):
        GuidedDatamodel(
            Attribution(prior[:, 1:], target_ids=bank.target_ids, train_ids=bank.train_ids[1:], method="p")
        ).attribute(bank)
    for nothing in (0 * prior, np.ones_like(prior)):
        with pytest.raises(InputError, match="prior 0 predicts the same"):
            GuidedDatamodel(own(nothing, bank)).attribute(bank)
    with pytest.raises(InputError, match="needs 20"):
        GuidedDatamodel(own(prior, bank), models=10).attribute(bank)
    with pytest.raises(InputError, match="models is 9999"):
        GuidedDatamodel(own(prior, bank), models=9999).attribute(bank)
    with pytest.raises(InputError, match="folds"):
        GuidedDatamodel(own(prior, bank), folds=1)
