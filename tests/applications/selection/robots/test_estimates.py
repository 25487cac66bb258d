"""Cluster effects: regression finds what was planted, the metagradient's sign, clusters of unequal length."""

import numpy as np
import pytest

import whence
from tests.applications.selection.robots.cloned import BAD, GOOD, cloned, pool
from whence.applications.selection import Attributed, Pool, select
from whence.applications.selection.robots import LateInjection, StateRetrieval, cluster_regression, rule_prior
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.correlation import correlations
from whence.study import Study

EFFECTS = np.array([-3.0, 2.0, 0.0, -1.0, 4.0, 0.5])
LENGTHS = np.array([1, 9, 4, 2, 30, 3])
CLUSTERS = np.repeat(np.arange(6), LENGTHS)


def planted(mask, seed):
    """Two targets whose outputs are linear in which clusters are there."""
    there = np.array([mask[CLUSTERS == c].all() for c in range(6)])
    return np.array([1.0, 3.0]) + there @ EFFECTS * np.array([1.0, 2.0])


def bank(tmp_path, keep=0.5):
    study = Study.from_function(planted, n=len(CLUSTERS), targets=2, outputs=["loss"])
    subsets = whence.Subsets.grouped(CLUSTERS, keep)
    return whence.retrain(study, 60, subsets=subsets, to=tmp_path / "bank.zarr", workers=0, progress=False)


def test_regression_finds_what_was_planted(tmp_path):
    scores = cluster_regression(bank(tmp_path), CLUSTERS, {"both": [0, 1], "first": [0]})
    weights = scores.data["weight"].values
    sums = np.stack([np.bincount(CLUSTERS, row) for row in weights])
    # subsets of one size tell effects apart up to a constant
    np.testing.assert_allclose(sums[0] - sums[0].mean(), 1.5 * (EFFECTS - EFFECTS.mean()), atol=0.02)
    np.testing.assert_allclose(sums[1] - sums[1].mean(), EFFECTS - EFFECTS.mean(), atol=0.02)
    assert scores.provenance["held_out_correlation"]["both"] > 0.99
    assert scores.target_ids.tolist() == ["both", "first"] and scores.calibrated


def test_long_clusters_win_by_their_sum_and_not_by_their_mean(tmp_path):
    scores = cluster_regression(bank(tmp_path), CLUSTERS, {"targets": [0, 1]})
    value = -scores.data["weight"].values[0]
    by_sum = select(value, count=2, groups=CLUSTERS, reduce="sum")
    assert set(CLUSTERS[by_sum]) == {0, 3}  # the two that lower the loss most
    by_mean = [set(CLUSTERS[select(value, count=k, groups=CLUSTERS)]) for k in (1, 2)]
    assert by_mean[0] == {0}  # one step does all of it
    worst = [
        set(CLUSTERS[select(value, count=1, groups=CLUSTERS, reduce=how, worst=True)])
        for how in ("sum", "mean")
    ]
    assert worst[0] == {4} and worst[1] != {4}  # 4.0 over 30 steps is less a step than 2.0 over 9


def many(tmp_path, clusters=60, models=100, noise=3.0):
    """Retrainings on half of 60 clusters of three steps, fewer than it takes to tell effects apart, and the
    effects."""
    effects = np.random.default_rng(0).normal(size=clusters)
    codes = np.repeat(np.arange(clusters), 3)

    def outputs(mask, seed):
        rng = np.random.default_rng(seed)
        return mask[::3] @ effects + noise * rng.normal() + np.zeros(2)

    study = Study.from_function(outputs, n=len(codes), targets=2, outputs=["loss"])
    subsets = whence.Subsets.grouped(codes, 0.5)
    made = whence.retrain(
        study, models, subsets=subsets, to=tmp_path / "many.zarr", held_out=0.2, workers=0, progress=False
    )
    return made, codes, effects


def prior_of(values, codes, ids, name="all"):
    return Attribution(values[codes][None] / 3, target_ids=[name], train_ids=ids, output="loss")


def test_a_prior_guides_the_regression_whatever_its_scale_and_sign(tmp_path):
    made, codes, effects = many(tmp_path)
    tasks = {"all": [0, 1]}
    rough = effects + 0.5 * np.random.default_rng(1).normal(size=len(effects))

    def error(scores):
        found = np.bincount(codes, scores.data["weight"].values[0])
        return np.square(found - found.mean() - (effects - effects.mean())).mean()

    plain = cluster_regression(made, codes, tasks)
    prior = prior_of(rough, codes, made.train_ids)
    guided = cluster_regression(made, codes, tasks, prior=prior)
    assert error(guided) < 0.8 * error(plain)
    assert guided.provenance["held_out_correlation"]["all"] > plain.provenance["held_out_correlation"]["all"]
    turned = cluster_regression(made, codes, tasks, prior=[prior_of(-70 * rough, codes, made.train_ids)])
    np.testing.assert_allclose(turned.weight, guided.weight, atol=1e-6)
    order = np.random.default_rng(2).permutation(len(codes))
    mixed = Attribution(
        prior.weight[:, order], target_ids=["all"], train_ids=made.train_ids[order], output="loss"
    )
    again = cluster_regression(made, codes, tasks, prior=mixed)
    np.testing.assert_allclose(again.weight, guided.weight, atol=1e-6)
    assert "guided by" in guided.method and guided.calibrated
    both = cluster_regression(made, codes, tasks, prior=[prior, prior_of(effects, codes, made.train_ids)])
    assert error(both) < 0.8 * error(plain)


def test_a_prior_of_other_groups_or_examples_is_refused(tmp_path):
    made, codes, effects = many(tmp_path)
    with pytest.raises(InputError, match="has no group 'all'"):
        cluster_regression(made, codes, {"all": [0]}, prior=prior_of(effects, codes, made.train_ids, "other"))
    with pytest.raises(InputError, match="has no training example"):
        cluster_regression(made, codes, {"all": [0]}, prior=prior_of(effects, codes, made.train_ids + 1000))


def test_a_prior_that_is_no_attribution_of_one_output_is_refused(tmp_path):
    made, codes, effects = many(tmp_path)
    tasks = {"all": [0]}
    for wrong in (effects, []):
        with pytest.raises(InputError, match="prior must be an Attribution"):
            cluster_regression(made, codes, tasks, prior=wrong)
    vector = Attribution(np.ones((1, 2, len(codes))), target_ids=["all"], train_ids=made.train_ids)
    with pytest.raises(InputError, match="several outputs per target"):
        cluster_regression(made, codes, tasks, prior=vector)
    with pytest.raises(InputError, match="predicts the same"):
        cluster_regression(made, codes, tasks, prior=prior_of(0 * effects, codes, made.train_ids))


def test_a_rule_is_a_prior_by_its_ranks():
    study = cloned()
    ids = study.target_ids.tolist()
    prior = rule_prior(StateRetrieval(), study, {"some": ids[:3], "all": ids})
    assert prior.target_ids.tolist() == ["some", "all"] and prior.method == StateRetrieval().name
    for row, targets in zip(prior.weight, (ids[:3], ids)):
        assert row.min() == -0.5 and row.max() == 0.5
        scores = StateRetrieval().scores(Pool(study, targets=targets))
        np.testing.assert_array_equal(np.argsort(row), np.argsort(-scores, kind="stable"))


def test_a_part_of_a_cluster_is_refused(tmp_path):
    study = Study.from_function(planted, n=len(CLUSTERS), targets=2, outputs=["loss"])
    split = whence.retrain(study, 40, keep=0.5, to=tmp_path / "split.zarr", workers=0, progress=False)
    with pytest.raises(InputError, match="keeps a part of a cluster"):
        cluster_regression(split, CLUSTERS)
    with pytest.raises(InputError, match=f"one id for each of {len(CLUSTERS)}"):
        cluster_regression(split, CLUSTERS[:-1])
    with pytest.raises(InputError, match="targets is empty"):
        cluster_regression(split, CLUSTERS, {"none": []})


INJECTION = LateInjection(trials=6, steps=80, at=50)


def chosen_share(scores, study, prior):
    """How many of the choice of GOOD episodes are good ones."""
    clusters = prior.clusters()
    ids = study.target_ids.tolist()
    values = Attributed.given(scores).scores(Pool(study, targets=ids, groups=clusters))
    kept = select(values, count=GOOD, groups=clusters)
    return np.mean(prior.sources[np.unique(prior.episode_of[kept])] == "expert")


def test_a_metagradient_among_some_clusters_is_that_of_their_own_pool():
    study, prior = cloned(), pool()
    clusters = prior.clusters()
    among = np.unique(clusters)[3:11]
    plan = LateInjection(trials=2, steps=12, at=8, share=1.0, feedback=0.0)
    found = plan.attribute(study, clusters, among=among)
    inside = np.isin(clusters, among)
    assert (found.weight[0][inside] != 0).all() and not found.weight[0][~inside].any()
    assert not np.array_equal(plan.attribute(study, clusters).weight[0][inside], found.weight[0][inside])
    again = plan.attribute(study, clusters, among=among[::-1])
    np.testing.assert_array_equal(again.weight, found.weight)
    for wrong, words in (
        ([], "among is empty"),
        ([among[0], 99999], "among names .*99999.* no cluster's id"),
    ):
        with pytest.raises(InputError, match=words):
            plan.attribute(study, clusters, among=wrong)


def test_the_metagradient_chooses_good_episodes():
    study, prior = cloned(), pool()
    scores = INJECTION.attribute(study, prior.clusters())
    share = chosen_share(scores, study, prior)
    assert share >= 0.75 > GOOD / (GOOD + BAD)
    assert scores.lower_is_better and scores.output == "loss"
    again = INJECTION.attribute(study, prior.clusters())
    np.testing.assert_array_equal(again.data["weight"].values, scores.data["weight"].values)


def test_regression_and_metagradient_agree(tmp_path):
    study, prior = cloned(epochs=25), pool()
    clusters = prior.clusters()
    bank = whence.retrain(
        study,
        80,
        subsets=whence.Subsets.grouped(clusters, 0.5),
        to=tmp_path / "cloned.zarr",
        workers=0,
        progress=False,
    )
    scores = cluster_regression(bank, clusters)
    first, second = (
        np.bincount(clusters, s.data["weight"].values[0])
        for s in (scores, INJECTION.attribute(study, clusters))
    )
    assert first[:GOOD].mean() < 0 < first[GOOD:].mean() and second[:GOOD].mean() < second[GOOD:].mean()
    assert correlations(first[:, None], second[:, None])[0] > 0.3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trials": 0}, "trials must be at least 1"),
        ({"steps": 10, "at": 10}, "must lie between 1 and steps - 1 = 9"),
        ({"share": 0.0}, "share must lie in"),
        ({"feedback": 0.5}, r"feedback in \[0, 0.5\)"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        LateInjection(**settings)
