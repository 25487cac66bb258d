"""Narrowing: what helps among the chosen is found, ranks and their order, resuming, bad input."""

import numpy as np
import pytest

from tests.applications.selection.robots.cloned import GOOD, cloned, pool
from whence.applications.selection.robots import LateInjection, Narrowing, narrowing
from whence.applications.selection.robots.regression import rule_prior
from whence.applications.selection.robots.retrieval import StateRetrieval
from whence.attribution import Attribution
from whence.errors import InputError

QUIET = {"progress": False}
SHORT = LateInjection(trials=1, steps=6, at=4, share=1.0, feedback=0.0)


def first_of(effects, clusters, study, name="all"):
    """An attribution by effects of clusters."""
    sizes = np.bincount(clusters)
    return Attribution(
        (np.asarray(effects) / sizes)[clusters][None],
        target_ids=[name],
        train_ids=study.train_ids,
        output="loss",
        method="planted",
    )


def planted(monkeypatch, effect):
    """Policies whose loss is `effect` of the set of clusters that they were trained on; and the sets."""
    seen = []

    class Policy:
        def __init__(self, chosen):
            self.chosen = chosen

        def mean_loss(self, demonstrations):
            return effect(self.chosen)

    def train(study, orders, **settings):
        sets = [set(np.unique(train.clusters[order.chosen]).tolist()) for order in orders]
        seen.append(sets)
        return [Policy(one) for one in sets]

    monkeypatch.setattr(narrowing, "train_policies", train)
    return train, seen


def test_what_hurts_among_good_ones_is_found_where_they_are_many(monkeypatch):
    """Clusters 8 to 15 looked as good as 0 to 7 from afar, and hurt among them."""
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    rng = np.random.default_rng(0)

    def loss(there):
        best = sum(c < 8 for c in there)
        second = sum(8 <= c < 16 for c in there)
        return second - best + rng.normal()

    train, seen = planted(monkeypatch, loss)
    train.clusters = clusters
    effects = np.zeros(count)
    effects[:16] = -1 - rng.uniform(0, 0.1, 16)
    found = Narrowing(candidates=0.5, rounds=2, models=60, steps=1, injection=SHORT).attribute(
        study, clusters, {"all": study.target_ids}, first_of(effects, clusters, study), **QUIET
    )
    order = np.argsort([found.weight[0][clusters == c][0] for c in range(count)])
    assert set(order[:8]) == set(range(8)) and set(order[:16]) == set(range(16))
    assert [len(sets) for sets in seen] == [60, 60]
    assert all(len(one) == 8 and one <= set(range(16)) for one in seen[0])
    assert all(len(one) == 4 and one <= set(range(8)) for one in seen[1])
    losses = found.provenance["losses"]["all"]
    assert len(losses) == 2 and losses[1] < losses[0]


def test_ranks_and_those_that_were_never_looked_at(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    train, _ = planted(monkeypatch, lambda there: float(sum(there)))
    train.clusters = clusters
    sizes = np.bincount(clusters)
    effects = np.arange(count) * sizes * 1.0  # by step: in order
    found = Narrowing(candidates=8 / count, rounds=9, models=20, steps=1, injection=SHORT).attribute(
        study, clusters, {"all": study.target_ids}, first_of(effects, clusters, study), **QUIET
    )
    by_cluster = np.array([found.weight[0][clusters == c][0] for c in range(count)])
    assert all(np.ptp(found.weight[0][clusters == c]) == 0 for c in range(count))
    assert by_cluster.min() == -0.5 and by_cluster.max() == 0.5 and len(set(by_cluster)) == count
    assert list(np.argsort(by_cluster)[8:]) == list(range(8, count))
    assert len(found.provenance["losses"]["all"]) == 2  # of 8 and of 4
    assert found.lower_is_better and not found.calibrated and "planted" in found.method


def test_real_policies_prefer_good_episodes_and_resume(tmp_path, monkeypatch):
    study, clusters = cloned(), pool().clusters()
    tasks = {"all": study.target_ids.tolist()}
    blind = first_of(np.random.default_rng(3).normal(size=clusters.max() + 1), clusters, study)
    plan = Narrowing(candidates=1.0, rounds=1, models=64, steps=150, injection=SHORT)
    found = plan.attribute(study, clusters, tasks, blind, to=tmp_path, **QUIET)
    order = np.argsort([found.weight[0][clusters == c][0] for c in range(clusters.max() + 1)])
    assert np.mean(order[:GOOD] < GOOD) >= 0.75
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with monkeypatch.context() as only_kept:
        only_kept.delattr(LateInjection, "attribute")  # metagradients are kept as policies are
        again = plan.attribute(study, clusters, tasks, blind, to=tmp_path, **QUIET)
    assert np.array_equal(again.weight, found.weight)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made
    other = plan.attribute(study, clusters, tasks, blind, seed=1, **QUIET)
    assert not np.array_equal(other.weight, found.weight)


def test_a_rule_can_be_what_it_starts_from(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    train, _ = planted(monkeypatch, lambda there: -float(0 in there))
    train.clusters = clusters
    tasks = {"all": study.target_ids.tolist()}
    start = rule_prior(StateRetrieval(), study, tasks)
    found = Narrowing(candidates=1.0, rounds=1, models=40, steps=1, injection=SHORT).attribute(
        study, clusters, tasks, start, **QUIET
    )
    assert found.weight[0][clusters == 0][0] == -0.5


def test_rules_and_metagradients_guide_every_round(monkeypatch):
    """What sixty noisy policies cannot tell, one of the guides knows."""
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    rng = np.random.default_rng(1)
    effects = rng.normal(size=count)
    train, _ = planted(monkeypatch, lambda there: sum(effects[c] for c in there) + 8 * rng.normal())
    train.clusters = clusters
    blind = first_of(rng.normal(size=count), clusters, study)
    knows = first_of(3 * effects + 0.1 * rng.normal(size=count), clusters, study)
    plan = Narrowing(candidates=1.0, rounds=1, models=60, steps=1, injection=SHORT)

    def told(**given):
        found = plan.attribute(study, clusters, {"all": study.target_ids}, blind, **given, **QUIET)
        by_cluster = np.array([found.weight[0][clusters == c][0] for c in range(count)])
        return np.corrcoef(by_cluster, effects)[0, 1]

    asked = []

    def gradient(self, *args, among, seed, **settings):
        asked.append((seed, among.tolist()))
        return first_of(effects, clusters, study)

    alone, ruled = told(), told(prior=knows)
    monkeypatch.setattr(LateInjection, "attribute", gradient)
    assert alone < 0.5 < 0.75 < min(ruled, told())
    assert asked == [(0, list(range(count)))]


def test_it_starts_from_what_is_best_by_the_outputs_own_sign(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    train, seen = planted(monkeypatch, lambda there: float(sum(there)))
    train.clusters = clusters
    plan = Narrowing(candidates=8 / count, rounds=1, models=20, steps=1, injection=SHORT)
    best = first_of(np.arange(count) * np.bincount(clusters) * 1.0, clusters, study)
    for output, sign in (("loss", 1), ("margin", -1)):
        start = Attribution(
            sign * best.weight, target_ids=["all"], train_ids=study.train_ids, output=output, method=output
        )
        found = plan.attribute(study, clusters, {"all": study.target_ids}, start, prior=best, **QUIET)
        assert set().union(*seen.pop()) == set(range(8))
        assert found.provenance["first"] == output and found.provenance["prior"] == ["planted"]


def test_policies_that_diverge_are_told(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    train, _ = planted(monkeypatch, lambda there: float("nan") if 0 in there else 1.0)
    train.clusters = clusters
    first = first_of(np.arange(clusters.max() + 1.0), clusters, study)
    with pytest.raises(InputError, match=r"of 20 policies of round 1 have no finite loss on the targets"):
        Narrowing(1.0, models=20, injection=SHORT).attribute(
            study, clusters, {"all": study.target_ids}, first, **QUIET
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"candidates": 0.0}, "candidates must be a share"),
        ({"candidates": 1.5}, "candidates must be a share"),
        ({"rounds": 0}, "rounds=0 and steps=400 must be at least 1"),
        ({"models": 19}, "models=19 at least 20"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Narrowing(**settings)


def test_bad_input():
    study, clusters = cloned(), pool().clusters()
    first = first_of(np.arange(clusters.max() + 1.0), clusters, study)
    tasks = {"all": study.target_ids.tolist()}
    with pytest.raises(InputError, match=r"candidates=0.1 of 32 clusters are 3, but at least 4"):
        Narrowing().attribute(study, clusters, tasks, first)
    with pytest.raises(InputError, match="has no task 'reach'"):
        Narrowing(0.5).attribute(study, clusters, {"reach": tasks["all"]}, first)
    with pytest.raises(InputError, match="tasks is empty"):
        Narrowing(0.5).attribute(study, clusters, {}, first)
    with pytest.raises(InputError, match="clusters must have one id"):
        Narrowing(0.5).attribute(study, clusters[1:], tasks, first)
    with pytest.raises(InputError, match="targets is empty"):
        Narrowing(0.5).attribute(study, clusters, {"all": []}, first)
