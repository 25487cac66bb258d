"""TRAK and the gradient products against their formulas on whole gradients."""

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.methods import TRAK, GradCos, GradDot, TracIn
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.kernel import pieces_of
from whence.methods.gradients.network import Network
from whence.methods.gradients.projection import Projection, project
from whence.study.outputs import margin
from whence.training import mlp
from whence.training.loop import train_one

N, T = 40, 7


@pytest.fixture(scope="module")
def study():
    random = np.random.default_rng(0)
    x = random.normal(size=(N + T, 6)).astype(np.float32)
    y = (x[:, 0] + 0.5 * random.normal(size=N + T) > 0).astype(int)
    return whence.Study(
        train=(x[:N], y[:N]),
        targets=(x[N:], y[N:]),
        outputs=["margin", "loss"],
        recipe=whence.Recipe(lambda: mlp(6, 2, (8,)), 4, 8, whence.SGD(0.1, momentum=0.9)),
    )


@pytest.fixture(scope="module")
def bank(study, tmp_path_factory):
    return whence.retrain(
        study,
        12,
        to=tmp_path_factory.mktemp("trak") / "bank.zarr",
        checkpoints=8,
        workers=0,
        progress=False,
    )


def rows(network, data, scalar):
    return torch.cat([p.flat() for p in pieces_of(network, data, scalar)], 1).double().numpy()


def by_formula(study, found, ridge, output="margin", masks=False):
    network, scores, q = Network(study, output), 0, 0
    for checkpoint in found:
        network.load(checkpoint)
        phi, target = rows(network, network.train, margin), rows(network, network.targets, network.output)
        seen = phi[checkpoint.mask] if masks else phi
        gram = seen.T @ seen + ridge * np.square(seen).sum() * np.eye(phi.shape[1])
        scores = scores + target @ np.linalg.solve(gram, phi.T)
        logits = network.module(network.train.inputs(slice(None)).float())
        p = torch.softmax(logits.double(), 1)
        q = q + (1 - p.gather(1, network.train.y[:, None])[:, 0]).detach().numpy()
    return scores / len(found) * q / len(found)


@pytest.mark.parametrize("output", ["margin", "loss"])
@pytest.mark.parametrize("masks", [False, True])
def test_trak_is_its_formula(study, bank, output, masks):
    found = checkpoints(study, bank, first=3)
    scores = TRAK(bank, first=3, ridge=1e-3, use_masks=masks).attribute(study, output)
    expected = by_formula(study, found, 1e-3, output, masks)
    assert np.abs(scores.weight - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_projection_at_full_size_changes_nothing(study, bank):
    class Whole(Projection):
        def __call__(self, pieces):
            return torch.cat([p.flat() for p in pieces], 1)

    from whence.methods import trak

    original, trak.Projection = trak.Projection, Whole
    try:
        projected = TRAK(bank, first=2, ridge=1e-2, projection=64).attribute(study)
    finally:
        trak.Projection = original
    exact = TRAK(bank, first=2, ridge=1e-2).attribute(study)
    assert np.allclose(projected.weight, exact.weight, rtol=1e-3, atol=1e-6)


def test_projected_scores_are_near_the_exact_ones(study, bank):
    exact = TRAK(bank, first=2, ridge=1e-2).attribute(study).weight
    near = TRAK(bank, first=2, ridge=1e-2, projection=2048).attribute(study).weight
    assert np.corrcoef(exact.ravel(), near.ravel())[0, 1] > 0.9


def test_projections_keep_dot_products_and_do_not_depend_on_the_batch(study, bank):
    network = Network(study, "margin").load(checkpoints(study, bank)[0])
    exact = rows(network, network.train, margin)
    exact = exact @ exact.T
    mean = 0
    for seed in range(60):
        once = project(network, network.train, margin, Projection(48, seed))
        mean = mean + (once @ once.T).double().numpy() / 60
    assert np.corrcoef(mean.ravel(), exact.ravel())[0, 1] > 0.98
    assert abs(np.trace(mean) / np.trace(exact) - 1) < 0.1
    parts = project(network, network.train, margin, Projection(48, 59), batch=3)
    assert torch.allclose(once, parts, rtol=1e-4, atol=1e-5)


def test_blocks_invert_each_part_of_the_gram_matrix(study, bank):
    one = TRAK(bank, first=1, ridge=1e-2, projection=64, blocks=4).attribute(study)
    network = Network(study, "margin").load(checkpoints(study, bank)[0])
    phi, target = (
        project(network, data, margin, Projection(64, 0)).double()
        for data in (network.train, network.targets)
    )
    unit = 1e-2 * phi.square().sum() / 4
    expected = sum(
        target[:, p] @ torch.linalg.solve(phi[:, p].T @ phi[:, p] + unit * torch.eye(16), phi[:, p].T)
        for p in (slice(i, i + 16) for i in range(0, 64, 16))
    )
    q = by_formula(study, checkpoints(study, bank, first=1), 1.0)
    ratio = one.weight / expected.numpy()
    assert np.allclose(ratio, ratio[:1], rtol=1e-2)  # Q scales columns alike for all targets
    assert q.shape == one.weight.shape


def test_the_path_is_each_count_and_ridge(study, bank):
    found = TRAK(bank).path(study, (1e-4, 1e-1), counts=(1, 3))
    wanted = [(count, ridge) for count in (1, 3) for ridge in (1e-4, 1e-1)]
    for (count, ridge), scores in zip(wanted, found, strict=True):
        alone = TRAK(bank, first=count, ridge=ridge).attribute(study)
        assert np.allclose(scores.weight, alone.weight) and scores.method == alone.method


def test_soft_threshold_silences_the_small(study, bank):
    plain = TRAK(bank, first=2).attribute(study).weight
    soft = TRAK(bank, first=2, soft_threshold=0.8).attribute(study).weight
    assert abs((soft == 0).mean() - 0.8) < 0.02
    assert (np.sign(soft[soft != 0]) == np.sign(plain[soft != 0])).all()


def test_gradient_products(study, bank):
    found = checkpoints(study, bank, first=2)
    network, dot, cos = Network(study, "margin"), 0, 0
    for checkpoint in found:
        network.load(checkpoint)
        train, target = rows(network, network.train, network.loss), rows(network, network.targets, margin)
        product = -target @ train.T
        dot = dot + product / 2
        sizes = np.linalg.norm(target, axis=1)[:, None] * np.linalg.norm(train, axis=1)
        cos = cos + product / sizes / 2
    for method, expected in ((GradDot, dot), (GradCos, cos)):
        scores = method(bank, first=2).attribute(study).weight
        assert np.allclose(scores, expected, rtol=1e-3, atol=1e-5)
    assert np.allclose(
        TracIn(bank, first=2, rates=[0.5, 0.5]).attribute(study).weight, dot, rtol=1e-3, atol=1e-5
    )


def test_tracin_follows_one_run_with_the_rates_of_its_schedule(study):
    count, n = 3, study.n
    recipe = study.recipe
    total = recipe.steps(n)
    trainer, states = study.trainer(), {}
    train_one(trainer.step, trainer.data, torch.ones(n), 7, watch=lambda t, state: states.update({t: state}))
    assert len(states) == total
    network, expected = Network(study, "margin"), 0
    for i in range(count):
        steps = range(total * i // count, total * (i + 1) // count)
        state = states[(steps.start + steps.stop + 1) // 2]
        network.load(checkpoints(study, [{**state.parameters, **state.buffers}])[0])
        rate = sum(recipe.optimizer.lr * recipe.schedule.factor(t, total) for t in steps)
        train, target = rows(network, network.train, network.loss), rows(network, network.targets, margin)
        expected = expected - rate * target @ train.T
    found = TracIn(count, seed=7).attribute(study).weight
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(InputError, match=f"between 1 and the {total} steps"):
        TracIn(10**6).attribute(study)


def test_an_example_of_its_own_class_next_to_it_helps(study):
    """Sign: a copy of the target among the training examples raises its margin."""
    x, y = np.array(study.train_inputs), np.array(study.train_labels)
    twin = whence.Study(train=(x, y), targets=(x[:5], y[:5]), outputs=["margin", "loss"], recipe=study.recipe)
    for method in (TRAK(3), GradDot(3), GradCos(3), TracIn(3)):
        margins, losses = (method.attribute(twin, output).weight for output in ("margin", "loss"))
        assert (np.diag(margins[:, :5]) > 0).all() and (np.diag(losses[:, :5]) < 0).all(), method


def test_checkpoints_trained_here_are_the_same_every_time(study):
    assert np.array_equal(TRAK(2).attribute(study).weight, TRAK(2).attribute(study).weight)


def test_bad_input(study, bank):
    with pytest.raises(InputError, match="ridge must be positive"):
        TRAK(bank, ridge=0)
    with pytest.raises(InputError, match="blocks is 3"):
        TRAK(bank, projection=64, blocks=3)
    with pytest.raises(InputError, match="99 checkpoints were asked for"):
        TRAK(bank, first=99).attribute(study)
    with pytest.raises(InputError, match="rates has 1 numbers"):
        TracIn(bank, first=2, rates=[1.0]).attribute(study)
    with pytest.raises(InputError, match="use_masks needs checkpoints"):
        state = bank.checkpoint(bank.checkpoint_rows()[0])
        TRAK([state], use_masks=True).attribute(study)
    with pytest.raises(InputError, match="lacks the examples themselves"):
        TRAK(1).attribute(whence.Study.from_function(lambda mask, seed: np.zeros(3), n=5, targets=3))
    other = whence.Study(
        train=(study.train_inputs, 1 - study.train_labels),
        targets=(study.target_inputs, study.target_labels),
        recipe=study.recipe,
    )
    with pytest.raises(InputError, match="bank of another study"):
        TRAK(bank).attribute(other)
