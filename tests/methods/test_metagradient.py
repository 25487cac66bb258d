"""MAGIC predicts retrainings with its own seed, in absolute units; bad recipes are said."""

import warnings

import numpy as np
import pytest

import whence
from tests.training.studies import TARGETS, N, study
from tests.training.test_replay import smooth
from whence.errors import InputError
from whence.methods import MAGIC
from whence.study import SGD
from whence.training.replay import differentiate
from whence.training.run import Run


def subject(**options):
    settings = {
        "subset": "weighted",
        "batch_size": 20,
        "optimizer": SGD(0.02, 0.9),
        "outputs": ("margin", "loss"),
    }
    return study(smooth, **{**settings, **options})


def test_it_predicts_leaving_one_out():
    s = subject()
    found = MAGIC(seed=4).attribute(s)
    masks = 1 - np.eye(N, dtype=int)[:12]
    true = np.stack([run.outputs["margin"] for run in s.trainer().train(masks, np.full(12, 4))])
    everything = next(iter(s.trainer().train(np.ones((1, N)), np.array([4])))).outputs["margin"]
    predicted = found.predict(masks)
    assert found.calibrated and predicted.shape == (12, TARGETS)
    assert np.allclose(found.predict(np.ones(N, dtype=int)), everything, atol=1e-4)
    error = np.abs(predicted - true).mean() / np.abs(true - everything).mean()
    assert error < 0.3
    assert np.corrcoef((predicted - everything).ravel(), (true - everything).ravel())[0, 1] > 0.95


def test_an_example_raises_its_own_margin_and_lowers_its_loss():
    s = subject()
    same = whence.Study(
        (s.train_inputs, s.train_labels),
        (s.train_inputs[:5], s.train_labels[:5]),
        s.recipe,
        ("margin", "loss"),
    )
    own = np.diag(MAGIC().attribute(same).weight[:, :5])
    assert (own > 0).mean() > 0.7
    assert (np.diag(MAGIC().attribute(same, "loss").weight[:, :5]) < 0).mean() > 0.7


def test_memory_and_chunks_change_nothing():
    a = MAGIC().attribute(subject()).to_numpy()
    b = MAGIC(memory=1, together=2).attribute(subject()).to_numpy()
    assert np.abs(a - b).max() < 1e-3 * np.abs(a).max()


def test_average_is_the_mean_over_seeds_and_halves():
    s = subject()
    found = MAGIC(average=2, keep=0.5, seed=7).attribute(s)
    masks = whence.Subsets.uniform(N, 0.5, 7).masks([0, 1]).astype(float)
    each = [
        differentiate(Run(s, 7 + i), "margin", range(TARGETS), mask).gradient for i, mask in enumerate(masks)
    ]
    assert np.allclose(found.to_numpy(), np.mean(each, axis=0), atol=1e-6)


def test_a_recipe_that_explodes_is_said():
    wild = subject(optimizer=SGD(8.0, 0.9), epochs=6, batch_size=4)
    with pytest.warns(UserWarning, match="adjoints grew .*smooth_conv_net"):
        MAGIC(check=False).attribute(wild)


def test_a_rough_recipe_is_said_though_adjoints_stay_small():
    rough = study("conv", epochs=6, optimizer=SGD(0.1, 0.9))
    with pytest.warns(
        UserWarning, match="explain .* of what changes .*smooth_conv_net.*metasmoothness"
    ) as said:
        found = MAGIC().attribute(rough)
    assert len(said) == 1
    assert found.provenance["explained"] < 0.5 and found.provenance["adjoint_growth"] < 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MAGIC(check=False).attribute(rough).provenance["explained"] is None


def test_a_smooth_recipe_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = MAGIC().attribute(subject())
        for group in ([0], [1, 2]):  # few rows change by nearly nothing now and then
            for seed in range(4):
                MAGIC(seed, groups={"some": group}).attribute(subject())
    assert 0.8 < found.provenance["explained"] <= 1


def test_the_explained_share_is_that_of_a_retraining():
    s = subject()
    found = MAGIC(seed=2).attribute(s)
    gone = np.random.default_rng(2).choice(N, 2, replace=False)
    mask = np.ones((1, N), dtype=int)
    mask[0, gone] = 0
    everything = next(iter(s.trainer().train(np.ones((1, N)), np.array([2])))).outputs["margin"]
    changed = next(iter(s.trainer().train(mask, np.array([2])))).outputs["margin"] - everything
    error = found.predict(mask)[0] - everything - changed
    g = found.to_numpy()
    expected = ((2 * g.mean(1)) ** 2 + 2 * (1 - 2 / N) * g.var(1)).sum()
    share = 1 - (error**2).sum() / max((changed**2).sum(), expected)
    assert found.provenance["explained"] == pytest.approx(share, abs=0.01)


def test_groups_are_means_of_their_targets():
    s = subject()
    each = MAGIC().attribute(s)
    ids = s.target_ids
    found = MAGIC(groups={"all": ids, "two": [ids[3], ids[1]], "one": ids[:1]}).attribute(s)
    weight = each.to_numpy()
    wanted = np.stack([weight.mean(0), weight[[1, 3]].mean(0), weight[0]])
    assert found.target_ids.tolist() == ["all", "two", "one"] and found.units == "mean margin per example"
    assert np.abs(found.to_numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()
    full = np.ones(N, dtype=int)
    assert found.predict(full)[0] == pytest.approx(each.predict(full).mean(), abs=1e-4)


def test_bad_input():
    with pytest.raises(InputError, match="Recipe"):
        MAGIC().attribute(whence.Study.from_function(lambda m, s: [1.0], n=3, targets=1))
    with pytest.raises(InputError, match="one number"):
        MAGIC().attribute(subject(outputs=("logits",)))
    for wrong in (
        {"average": 0},
        {"keep": 0.0},
        {"adjoint": "half"},
        {"memory": 0},
        {"together": 0},
        {"groups": {}},
    ):
        with pytest.raises(InputError):
            MAGIC(**wrong)
    with pytest.raises(InputError, match="no target of the study"):
        MAGIC(groups={"a": ["nobody"]}).attribute(subject())
