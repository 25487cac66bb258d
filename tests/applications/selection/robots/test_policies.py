"""Policies on chosen steps: exact shares of each batch, equally many steps, kept on disk, tanh once."""

import numpy as np
import pytest
import torch

from tests.applications.selection.robots.cloned import cloned, report
from whence.applications.selection.robots import Order, Policy, batches, train_policies
from whence.errors import InputError
from whence.study.robots import TanhGaussian


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_each_batch_has_exactly_its_share_of_the_target(alpha):
    chosen, target = np.arange(10), 100 + np.arange(3)
    drawn = batches(chosen, target, steps=50, batch_size=16, alpha=alpha, seed=1)
    assert drawn.shape == (50, 16) and drawn.dtype == np.int64
    assert ((drawn >= 100).sum(1) == round(alpha * 16)).all()
    counts = np.bincount(drawn[drawn < 100], minlength=10)
    assert counts.max() - counts.min() <= 1  # each as often as any other, to within the last round
    np.testing.assert_array_equal(
        drawn, batches(chosen, target, steps=50, batch_size=16, alpha=alpha, seed=1)
    )


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match=r"alpha must lie in \[0, 1\]"):
        batches(np.arange(3), np.arange(3), steps=1, batch_size=4, alpha=1.5)
    with pytest.raises(InputError, match="target is empty, but 2 of the 4 steps"):
        batches(np.arange(3), np.arange(0), steps=1, batch_size=4, alpha=0.5)


def test_policies_are_the_same_alone_and_in_company(tmp_path):
    study = cloned()
    orders = [
        Order(np.arange(20), 0),
        Order(np.arange(20, 60), 1),
        Order(np.arange(0), 2, np.arange(10), 1.0),
    ]
    alone = train_policies(study, orders, steps=20, stack=1, progress=False)
    together = train_policies(study, orders, steps=20, stack=3, to=tmp_path, progress=False)
    for one, other in zip(alone, together):
        for a, b in zip(one.network.parameters(), other.network.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_policies_on_disk_are_not_trained_again(tmp_path, monkeypatch):
    study, orders = cloned(), [Order(np.arange(20), 0), Order(np.arange(20), 1)]
    first = train_policies(study, orders, steps=5, to=tmp_path, progress=False)
    monkeypatch.setattr("whence.applications.selection.robots.policies.train_on_batches", None)
    again = train_policies(study, orders, steps=5, to=tmp_path, progress=False)
    assert [p.fingerprint for p in first] == [p.fingerprint for p in again]
    assert first[0].fingerprint != first[1].fingerprint


def test_more_steps_lower_the_loss():
    study = cloned()
    few, many = (
        train_policies(study, [Order(np.arange(100), 0)], steps=steps, progress=False)[0]
        for steps in (5, 100)
    )
    assert many.mean_loss(report()) < few.mean_loss(report())


def test_a_policy_applies_tanh_once():
    network = torch.nn.Linear(2, 4)
    policy = Policy(network)
    outputs = network(torch.tensor([[0.3, -2.0]]))[0, :2].detach().numpy()
    np.testing.assert_allclose(policy(np.array([0.3, -2.0])), np.tanh(outputs), rtol=1e-6)
    loss = policy.mean_loss(
        report().__class__(np.ones((3, 2)), np.zeros((3, 2)), np.array([3]), np.array([""]))
    )
    expected = TanhGaussian()(network(torch.ones(1, 2)), torch.zeros(1, 2))
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_other_studies_are_refused():
    from tests.training.studies import study

    with pytest.raises(InputError, match="a Recipe with a TanhGaussian loss"):
        train_policies(study(), [Order(np.arange(5))], steps=1)
