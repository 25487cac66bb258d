"""The rollout datamodel: what succeeds is found, rounds go on, any success can be asked for, bad input."""

import importlib.util
import sys

import numpy as np
import pytest

from tests.applications.selection.robots.cloned import GOOD, cloned, pool, report
from whence.applications.selection.base import Selector
from whence.applications.selection.robots import RolloutDatamodel, StateRetrieval, Trials, rollout_datamodel
from whence.applications.selection.robots.rollouts import Rollouts
from whence.errors import InputError

SMALL = {"fraction": 0.25, "probes": 20, "rounds": 1, "models": 8, "steps": 1}


class Good(Selector):
    """A rule that knows which episodes are good, or that has it the wrong way round."""

    def __init__(self, sign=1, name="good first"):
        self.sign, self.name = sign, name

    def scores(self, pool, seed=0):
        rng = np.random.default_rng(seed)
        return self.sign * (pool_clusters() < GOOD) + 0.01 * rng.random(pool.n)


def pool_clusters():
    return pool().clusters()


def planted(monkeypatch, effect):
    """Policies that succeed as `effect` of the set of clusters says; and the sets of each round."""
    seen = []

    class Policy:
        def __init__(self, chosen):
            self.chosen = chosen

    def train(study, orders, **settings):
        clusters = pool_clusters()
        sets = [frozenset(np.unique(clusters[order.chosen]).tolist()) for order in orders]
        seen.append((sets, [(order.alpha, order.target is None, order.seed) for order in orders]))
        return [Policy(one) for one in sets]

    monkeypatch.setattr(rollout_datamodel, "train_policies", train)
    return (lambda policies, task: [effect(policy.chosen) for policy in policies]), seen


def order_of(found):
    clusters = pool_clusters()
    return np.argsort([found.weight[0][clusters == c][0] for c in range(clusters.max() + 1)])


@pytest.mark.parametrize("sign", [1, -1])
def test_which_end_of_a_guide_is_good_is_found_out(monkeypatch, sign):
    study, rng = cloned(), np.random.default_rng(0)
    success, seen = planted(
        monkeypatch, lambda there: np.clip(np.mean([c < GOOD for c in there]) + 0.1 * rng.normal(), 0, 1)
    )
    plan = RolloutDatamodel(**SMALL | {"probes": 40})
    found = plan.attribute(
        study, pool_clusters(), {"all": study.target_ids}, Good(sign), success=success, progress=False
    )
    assert (order_of(found)[:8] < GOOD).all()
    assert [len(sets) for sets, _ in seen] == [40, 8]
    assert all(len(one) == 8 for sets, _ in seen for one in sets)
    told = found.provenance["success"]["all"]
    assert len(told) == 2 and told[1] > told[0] + 0.1  # later policies gather where success is
    assert found.provenance["foretold"]["all"] > 0.5 and found.provenance["guides"] == ["good first"]
    (profile,) = found.provenance["profiles"]["all"]
    assert len(profile) == len(found.provenance["knots"]) and sign * (profile[0] - profile[-1]) > 0.2
    assert found.lower_is_better and found.weight.min() == -0.5 and found.weight.max() == 0.5


def test_policies_are_trained_as_asked_for(monkeypatch):
    study = cloned()
    rng = np.random.default_rng(0)
    success, seen = planted(monkeypatch, lambda there: rng.random())
    for alpha in (0.5, 0.0):
        RolloutDatamodel(**SMALL, alpha=alpha).attribute(
            study, pool_clusters(), {"all": study.target_ids}, [Good()], success=success, progress=False
        )
    (_, mixed), _, (_, alone), _ = seen
    assert {one[:2] for one in mixed} == {(0.5, False)} and {one[:2] for one in alone} == {(0.0, True)}
    assert len({seed for *_, seed in mixed}) == 20


def test_rounds_are_kept_and_gone_on_with(monkeypatch, tmp_path):
    study, tasks = cloned(), {"all": cloned().target_ids.tolist()}

    def there_are(chosen):
        return len([c for c in chosen if c < GOOD]) / 8

    success, seen = planted(monkeypatch, there_are)
    plan = RolloutDatamodel(**SMALL)
    whole = plan.attribute(study, pool_clusters(), tasks, [Good()], success=success, progress=False)
    calls = []

    def stopped(policies, task):
        calls.append(len(policies))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return success(policies, task)

    stopped.__qualname__ = success.__qualname__
    with pytest.raises(KeyboardInterrupt):
        plan.attribute(study, pool_clusters(), tasks, [Good()], success=stopped, to=tmp_path, progress=False)
    seen.clear()
    again = plan.attribute(
        study, pool_clusters(), tasks, [Good()], success=success, to=tmp_path, progress=False
    )
    assert [len(sets) for sets, _ in seen] == [8]
    assert np.array_equal(again.weight, whole.weight)
    seen.clear()
    plan.attribute(study, pool_clusters(), tasks, [Good()], success=success, to=tmp_path, progress=False)
    assert not seen
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"PK\x03\x04 no rounds")
    with pytest.raises(InputError, match="cannot be read as the rounds of a rollout datamodel"):
        plan.attribute(study, pool_clusters(), tasks, [Good()], success=success, to=tmp_path, progress=False)


def test_without_a_function_policies_are_rolled_out_in_trials(monkeypatch):
    study = cloned()
    planted(monkeypatch, None)
    asked = []

    def roll_out(policies, tasks, **settings):
        asked.append((set(tasks), settings["episodes"], settings["horizon"], settings["seed"]))
        return [
            Rollouts(task, np.array([0 in p.chosen, True]), np.array([3, 3]))
            for p, task in zip(policies, tasks, strict=True)
        ]

    monkeypatch.setattr(rollout_datamodel, "roll_out", roll_out)
    monkeypatch.setattr(rollout_datamodel, "check_task", lambda task: None)
    found = RolloutDatamodel(**SMALL, trials=Trials(2, 30, seed=5)).attribute(
        study, pool_clusters(), {"reach-v3": study.target_ids}, [StateRetrieval()], progress=False
    )
    assert asked == [({"reach-v3"}, 2, 30, 5)] * 2
    assert found.target_ids.tolist() == ["reach-v3"]


def test_real_policies_prefer_good_episodes():
    """Success: an action error below a bound on a share of the steps of demonstrations that are held out."""
    study, held = cloned(), report()

    def near(policies, task):
        acted = (np.array([policy(o) for o in held.observations[:40]]) for policy in policies)
        return [float(np.mean(np.abs(actions - held.actions[:40]) < 0.3)) for actions in acted]

    plan = RolloutDatamodel(fraction=0.25, probes=24, rounds=1, models=8, steps=60, alpha=0.0)
    found = plan.attribute(
        study, pool_clusters(), {"all": study.target_ids}, [StateRetrieval()], success=near, progress=False
    )
    assert np.mean(order_of(found)[:8] < GOOD) >= 0.75


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fraction": 1.0}, r"fraction must lie in \(0, 1\)"),
        ({"probes": 19}, "probes=19 must be at least 20"),
        ({"rounds": -1}, "rounds=-1 at least 0"),
        ({"models": 0}, "models=0 and steps"),
        ({"steps": 0}, "steps=0 at least 1"),
        ({"alpha": 1.0}, r"alpha must lie in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        RolloutDatamodel(**settings)


def test_bad_input(monkeypatch, tmp_path):
    study, clusters = cloned(), pool_clusters()
    tasks, to = {"all": study.target_ids.tolist()}, tmp_path / "kept"
    success, seen = planted(monkeypatch, lambda there: 0.0)

    def asked(plan=RolloutDatamodel(**SMALL), tasks=tasks, guides=(Good(),), success=success):
        plan.attribute(study, clusters, tasks, guides, success=success, to=to, progress=False)

    with pytest.raises(InputError, match=r"fraction=0.001 of 32 clusters are 0, which leaves nothing"):
        asked(RolloutDatamodel(0.001))
    with pytest.raises(InputError, match="one rule in guides"):
        asked(guides=())
    with pytest.raises(
        InputError,
        match="guides must be rules, received a str; an attribution becomes",
    ):
        asked(guides=["metagradient"])
    with pytest.raises(InputError, match="at least one task"):
        asked(tasks={})
    with pytest.raises(InputError, match="'nobody'"):
        asked(tasks={"all": ["nobody"]})
    if importlib.util.find_spec("metaworld"):
        with pytest.raises(InputError, match="no MetaWorld task 'pick-plaice-v3'"):
            asked(tasks={"pick-place-v3": tasks["all"], "pick-plaice-v3": tasks["all"]}, success=None)
    with monkeypatch.context() as absent, pytest.raises(InputError, match="needs the robot extra"):
        absent.setitem(sys.modules, "metaworld", None)
        asked(success=None)
    assert not seen
    with pytest.raises(InputError, match=r"all 20 policies of 'all' succeed in 0% of their trials"):
        asked()
    with pytest.raises(InputError, match=r"share in \[0, 1\] for each of 20 policies, received shape .20"):
        asked(success=lambda policies, task: [2.0] * len(policies))
    with pytest.raises(InputError, match=r"received shape \(1,\)"):
        asked(success=lambda policies, task: [0.5])
    with pytest.raises(InputError, match="share in"):
        asked(success=lambda policies, task: [float("nan")] * len(policies))
    assert not to.exists()
