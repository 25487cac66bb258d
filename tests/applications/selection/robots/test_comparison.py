"""Comparing rules: good choices make better policies; held-out means held out; rollouts in a tiny world."""

import functools
import json

import numpy as np
import pytest

from tests.applications.selection.robots.cloned import cloned, pool, report, targets
from tests.study.robots.made import driven
from whence.applications.selection import Attributed, Random
from whence.applications.selection.robots import (
    LateInjection,
    StateRetrieval,
    Trials,
    compare_demonstrations,
    comparison,
    roll_out,
)
from whence.applications.selection.robots import rollouts as module
from whence.applications.selection.robots.policies import train_policies
from whence.applications.selection.robots.rollouts import REPORTED
from whence.errors import InputError
from whence.study.robots import Demonstrations, target_groups


@functools.cache
def estimated():
    scores = LateInjection(trials=6, steps=80, at=50).attribute(cloned(), pool().clusters(), name="reach")
    return Attributed.given(scores, "metagradient")


def compared(rules=None, **options):
    study, prior = cloned(), pool()
    settings = {
        "clusters": prior.clusters(),
        "tasks": target_groups(targets()),
        "fractions": (0.3,),
        "seeds": 2,
        "steps": 80,
        "rollouts": False,
        "progress": False,
    }
    held_out = options.pop("report", report())
    rules = [estimated(), Random()] if rules is None else rules
    return compare_demonstrations(study, held_out, rules, **settings | options)


def test_a_good_choice_makes_a_better_policy(tmp_path):
    found = compared(to=tmp_path)
    means = {arm.name: arm.losses.mean() for arm in found.arms}
    assert means["metagradient"] < means["all data"] and means["metagradient"] < means["random"]
    assert set(means) == {"target only", "all data", "metagradient", "random"}
    episodes = np.unique(pool().episode_of[found.arm("reach", "metagradient").ids])
    assert len(episodes) == round(0.3 * pool().episodes)
    assert "held-out loss" in found.statement and found.verify(cloned()) is found
    json.dumps(found.to_dict())
    found.export(tmp_path / "chosen.npy", "reach", "metagradient")
    np.testing.assert_array_equal(np.load(tmp_path / "chosen.npy"), found.arm("reach", "metagradient").ids)
    assert str(compared(to=tmp_path)) == str(found)


def test_a_tuned_fraction_is_that_of_the_lowest_loss_on_the_targets(tmp_path):
    fractions = (0.1, 0.5, 1.0)
    every = compared(fractions=fractions, to=tmp_path)
    found = compared(fractions=fractions, tuned=True, to=tmp_path)
    assert [(arm.name, arm.task) for arm in found.arms] == [
        (name, "reach") for name in ("target only", "all data", "metagradient", "random")
    ]
    for name in ("metagradient", "random"):
        arm = found.arm("reach", name)
        same = every.arm("reach", name, arm.fraction)
        assert np.array_equal(arm.losses, same.losses) and np.array_equal(arm.ids, same.ids)
    # the targets are of the same kind as the report demonstrations, so their losses choose alike here
    best = min(fractions, key=lambda f: every.arm("reach", "metagradient", f).losses.mean())
    assert found.arm("reach", "metagradient").fraction == best
    rows = {row[0]: row[1] for row in found.table.rows}
    assert rows["metagradient"] == best and rows["all data"] == 1.0
    with pytest.raises(InputError, match=r"alpha=0.5 trains on the targets"):
        compared(fractions=fractions, tuned=True, alpha=0.5)


def test_a_fraction_whose_policies_diverged_is_not_kept():
    keys = [("reach", "rule", 0.1), ("reach", "rule", 0.5)]
    for losses, best in (((np.nan, 2.0), keys[1]), ((2.0, np.nan), keys[0])):
        assert comparison._best(keys, losses) == {best: 2.0}


def test_a_fraction_can_be_tuned_by_trials_from_other_placements(plane, tmp_path, monkeypatch):
    fractions, trials = (0.1, 0.5, 1.0), Trials(episodes=12, horizon=30)
    seeds, rolled = [], roll_out

    def counted(policies, tasks, **settings):
        seeds.append((len(policies), settings["episodes"], settings["seed"]))
        return rolled(policies, tasks, **settings)

    monkeypatch.setattr(comparison, "roll_out", counted)
    options = {"fractions": fractions, "horizon": 30, "to": tmp_path, "alpha": 0.25}
    found = compared(tuned=trials, rollouts=True, episodes=20, **options)
    assert [seed for *_, seed in seeds] == [trials.seed, REPORTED]
    # two seeds each of two rules at three fractions, of all data and of the target alone; then one fraction
    assert [count[:2] for count in seeds] == [(16, 12), (8, 20)]
    every = compared(rollouts=True, episodes=12, **options)
    monkeypatch.setattr(comparison, "REPORTED", trials.seed)
    tried = compared(rollouts=True, episodes=12, **options)
    for name in ("metagradient", "random"):
        arm = found.arm("reach", name)
        rates = {f: tried.arm("reach", name, f).rates.mean() for f in fractions}
        assert rates[arm.fraction] == max(rates.values()) == -arm.judged
    assert all(arm.judged is None for arm in every.arms)
    with pytest.raises(InputError, match=f"seed={REPORTED} of the trials has the placements that are"):
        Trials(seed=REPORTED)


def test_clusters_are_kept_whole():
    found = compared([StateRetrieval()], clusters=pool().clusters(5), steps=2)
    kept, clusters = found.arm("reach", "state retrieval").ids, pool().clusters(5)
    for cluster in np.unique(clusters[kept]):
        assert np.isin(np.flatnonzero(clusters == cluster), kept).all()


def test_behind_its_head_each_seed_draws_its_own(monkeypatch):
    asked, orders = [], []

    class Counted(StateRetrieval):
        def scores(self, pool, seed=0):
            asked.append(seed)
            return super().scores(pool, seed)

    def keeping(study, mine, **options):
        orders.extend(mine)
        return train_policies(study, mine, **options)

    monkeypatch.setattr(comparison, "train_policies", keeping)
    found = compared([Counted()], seeds=[3, 4], steps=2, head=0.1)
    by_rank = compared([StateRetrieval()], fractions=(0.1,), steps=2).arm("reach", "state retrieval")
    first, second = (set(order.chosen) for order in orders[4:6])  # behind the target's and all data's two
    assert asked == [3] and set(by_rank.ids) < first and set(by_rank.ids) < second and first != second
    assert set(found.arm("reach", "state retrieval").ids) == first
    episodes = pool().episode_of
    assert all(
        len(np.unique(episodes[list(kept)])) == round(0.3 * pool().episodes) for kept in (first, second)
    )
    assert "rank the best 10% of the pool" in found.meaning and found.provenance["head"] == 0.1
    assert "rank the best" not in compared([StateRetrieval()], steps=2).meaning


class Plane:
    """A world in which `made.driven`'s point moves; solved when it is near its goal."""

    def __init__(self, task, seed):
        self.task, self.seed = task, seed

    def reset(self, goal):
        self.at, self.goal = np.random.default_rng([self.seed, goal]).uniform(-1, 1, (2, 2))
        return np.r_[self.goal - self.at, self.at].astype(np.float32)

    def step(self, action):
        self.at = self.at + 0.3 * np.asarray(action)
        return (
            np.r_[self.goal - self.at, self.at].astype(np.float32),
            0.0,
            bool(np.linalg.norm(self.at - self.goal) < 0.2),
        )


@pytest.fixture
def plane(monkeypatch):
    monkeypatch.setattr(module, "simulator", Plane)
    monkeypatch.setattr(module, "installed", lambda: None)


class Towards:
    fingerprint = "towards"

    def __call__(self, observation):
        return observation[:2]


class Still:
    fingerprint = "still"

    def __call__(self, observation):
        return np.zeros(2)


def test_rollouts_count_what_is_solved_at_any_step(plane, tmp_path):
    good, bad = roll_out(
        [Towards(), Still()], ["a", "a"], episodes=20, horizon=60, to=tmp_path, progress=False
    )
    assert good.rate == 1.0 and good.lengths.max() < 60
    assert bad.rate < 0.3 and bad.interval[0] <= bad.rate <= bad.interval[1]
    assert set(bad.lengths[~bad.success].tolist()) == {25}  # it stopped moving, so it was stopped
    Towards.__call__ = None  # what was rolled out is not again
    again = roll_out([Towards()], ["a"], episodes=20, horizon=60, to=tmp_path, progress=False)[0]
    np.testing.assert_array_equal(again.lengths, good.lengths)


def test_policies_are_rolled_out_and_the_surrogate_is_judged(plane):
    found = compared(rollouts=True, episodes=10, horizon=30)
    rates = {arm.name: arm.rates.mean() for arm in found.arms}
    assert rates["metagradient"] > rates["all data"]
    assert found.rank_correlation["reach"] > 0
    assert "of rollouts" in found.statement and found.chart.kind == "bars"


@pytest.mark.parametrize("options", [{"rollouts": True}, {"tuned": Trials()}])
def test_without_a_simulator_nothing_is_trained(options, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "metaworld", None)
    monkeypatch.setattr(comparison, "train_policies", None)
    with pytest.raises(InputError, match=r"pip install 'whence\[robot\]'"):
        compared(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"report": targets()}, "also those of a target; what is reported must be held out"),
        ({"report": pool().take([0])}, "also those of a candidate"),
        ({"report": driven(2, "push", seed=8)}, "report has no demonstration of 'reach'"),
        ({"tasks": {"reach": []}}, "no target example"),
        ({"tasks": {}}, "at least one seed, one task and one fraction"),
        ({"clusters": np.zeros(3)}, "clusters must have one id for each"),
        ({"alpha": 2.0}, "alpha must lie in"),
        ({"head": 0.0}, "head must be a share of the candidates"),
        (
            {"report": Demonstrations(np.ones((2, 5)), np.zeros((2, 2)), np.array([2]), np.array(["reach"]))},
            "observations of size 5",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        compared([StateRetrieval()], **options)


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(InputError, match="must differ in name"):
        compared([StateRetrieval(), StateRetrieval()])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"episodes": 51}, "episodes must be 1 to 50"), ({"horizon": 0}, "horizon must be 1 to 500")],
)
def test_impossible_rollouts_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        roll_out([Still()], ["a"], **options)
    with pytest.raises(InputError, match=words):
        Trials(**options)
    with pytest.raises(InputError, match="one task for each policy"):
        roll_out([Still()], [])
