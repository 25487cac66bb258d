"""Metagradient descent: swaps, what is found among good and bad, the halves of the demonstrations, resuming,
bad input."""

import numpy as np
import pytest

from tests.applications.selection.robots.cloned import GOOD, cloned, pool, targets
from tests.applications.selection.robots.test_narrowing import first_of
from whence.applications.selection.robots import MetagradientDescent, descent
from whence.attribution import Attribution
from whence.errors import InputError
from whence.training.injection import InjectedRun

QUIET = {"progress": False}
SHORT = {"trials": 1, "steps": 6, "at": 4}
EPISODES = targets().episode_of


def blind(study, clusters, seed=3):
    return first_of(np.random.default_rng(seed).normal(size=clusters.max() + 1), clusters, study)


def by_cluster(found, clusters, row=0):
    return np.array([found.weight[row][clusters == c][0] for c in range(clusters.max() + 1)])


def test_the_worst_of_the_choice_change_places_with_the_best_outside():
    chosen = np.array([True, True, True, False, False, False])
    slope = np.array([3.0, 2.0, -1.0, -3.0, 0.0, 5.0])
    assert descent._swapped(chosen, slope, 1).tolist() == [False, True, True, True, False, False]
    assert descent._swapped(chosen, slope, 3).tolist() == [False, False, True, True, True, False]
    best = np.array([False, False, True, True, True, False])
    assert (descent._swapped(best, slope, 3) == best).all()


def test_the_choice_is_what_descends_and_keeps_its_size(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    value = np.random.default_rng(0).normal(size=count)
    seen = []

    def slope(job, chosen, number):
        seen.append(int(chosen.sum()))
        return value, float(value[chosen].sum())

    monkeypatch.setattr(descent, "_slope", slope)
    found = MetagradientDescent(0.25, rounds=9, swapped=0.5, alpha=0.0).attribute(
        study, clusters, {"all": study.target_ids}, blind(study, clusters), **QUIET
    )
    order = np.argsort(by_cluster(found, clusters))
    assert set(seen) == {count // 4} and len(seen) == 9
    assert (order == np.argsort(value)).all()
    losses = found.provenance["losses"]["all"]
    assert losses == sorted(losses, reverse=True) and losses[-1] == pytest.approx(
        np.sort(value)[: count // 4].sum()
    )
    ranks = by_cluster(found, clusters)
    assert ranks.min() == -0.5 and ranks.max() == 0.5 and len(set(ranks)) == count
    assert found.units == "rank" and found.lower_is_better and not found.calibrated


def test_fewer_swaps_each_round(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    taken = []

    def swapped(chosen, slope, most):
        taken.append(most)
        return chosen

    monkeypatch.setattr(descent, "_slope", lambda job, chosen, number: (np.zeros(len(chosen)), 0.0))
    monkeypatch.setattr(descent, "_swapped", swapped)
    MetagradientDescent(0.5, rounds=4, swapped=0.75, alpha=0.0).attribute(
        study, clusters, {"all": study.target_ids}, blind(study, clusters), **QUIET
    )
    assert taken == [12, 9, 6, 3]


def test_slopes_count_from_the_mean_step_of_the_choice():
    study, clusters = cloned(), pool().clusters()
    plan = MetagradientDescent(0.5, **SHORT, alpha=0.0)
    chosen = np.arange(clusters.max() + 1) < GOOD
    positions = np.arange(len(study.targets))
    codes, sizes = clusters, np.bincount(clusters)
    job = descent._Job(plan, study, codes, sizes, positions, None, np.arange(GOOD), 0, None)
    slope, loss = descent._slope(job, chosen, 0)
    seed = int(np.random.default_rng([0, 0, 0xDE5C]).integers(2**31))
    run = InjectedRun(study, np.flatnonzero(chosen[codes]), np.arange(study.n), steps=6, at=4, seed=seed)
    found = run.differentiate("loss", [positions.tolist()])
    by_step = found.gradient[0]
    expected = np.bincount(codes, by_step - by_step[chosen[codes]].mean())
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-12)
    assert loss == pytest.approx(found.outputs[0])
    assert abs(slope[chosen].sum()) < 1e-6 * np.abs(slope).sum()  # the choice itself changes nothing


def test_half_of_the_demonstrations_train_and_the_others_judge(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    seen = []

    class Watched(InjectedRun):
        def __init__(self, both, included, injected, **plan):
            self.trained = included
            super().__init__(both, included, injected, **plan)

        def differentiate(self, output, groups):
            seen.append((self.trained, np.array(groups[0])))
            return super().differentiate(output, groups)

    monkeypatch.setattr(descent, "InjectedRun", Watched)
    MetagradientDescent(0.5, rounds=2, **SHORT | {"trials": 2}, alpha=0.25).attribute(
        study,
        clusters,
        {"all": study.target_ids},
        blind(study, clusters),
        target_episodes=EPISODES,
        **QUIET,
    )
    splits = set()
    for trained, judges in seen:
        own = trained[trained >= study.n] - study.n
        assert len(own) == pytest.approx(len(trained) / 4, abs=1)
        training, judging = set(EPISODES[own]), set(EPISODES[judges])
        assert len(judging) == 3 and not training & judging
        assert len(judges) == np.isin(EPISODES, list(judging)).sum()
        splits.add(frozenset(judging))
    assert len(seen) == 4 and len(splits) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_good_episodes_are_found_from_a_blind_start(alpha):
    study, clusters = cloned(), pool().clusters()
    plan = MetagradientDescent(0.5, rounds=24, trials=2, steps=150, at=120, alpha=alpha)
    good = []
    for seed in (0, 1):
        found = plan.attribute(
            study,
            clusters,
            {"all": study.target_ids},
            blind(study, clusters, seed),
            target_episodes=EPISODES,
            seed=seed,
            **QUIET,
        )
        good.append(np.mean(np.argsort(by_cluster(found, clusters))[:GOOD] < GOOD))
        losses = found.provenance["losses"]["all"]
        assert losses[-1] < losses[0] - 0.5
    assert np.mean(good) >= 0.8


def test_a_descent_that_was_stopped_goes_on(tmp_path, monkeypatch):
    study, clusters = cloned(), pool().clusters()
    tasks = {"some": study.target_ids[:20].tolist(), "all": study.target_ids.tolist()}
    start = blind(study, clusters)
    double = Attribution(
        np.repeat(start.weight, 2, axis=0),
        target_ids=list(tasks),
        train_ids=study.train_ids,
        output="loss",
    )
    plan = MetagradientDescent(0.5, rounds=4, **SHORT)

    def descended(**where):
        return plan.attribute(
            study, clusters, tasks, double, target_episodes=EPISODES, seed=5, **where, **QUIET
        )

    whole = descended()
    real, left = descent._slope, [6]  # the first task, and two rounds of the second

    def stops(job, chosen, number):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(job, chosen, number)

    monkeypatch.setattr(descent, "_slope", stops)
    with pytest.raises(KeyboardInterrupt):
        descended(to=tmp_path)
    left[0] = 2
    resumed = descended(to=tmp_path)
    assert left[0] == 0 and np.array_equal(resumed.weight, whole.weight)
    assert resumed.provenance["losses"] == whole.provenance["losses"]
    assert np.array_equal(descended(to=tmp_path).weight, whole.weight)
    monkeypatch.setattr(descent, "_slope", real)
    assert np.array_equal(descended(processes=2).weight, whole.weight)


def test_it_starts_from_the_best_by_the_output_s_own_sign(monkeypatch):
    study, clusters = cloned(), pool().clusters()
    count = clusters.max() + 1
    monkeypatch.setattr(descent, "_slope", lambda job, chosen, number: (np.zeros(count), 0.0))
    effects = np.arange(count) * np.bincount(clusters)
    for output, best in (("loss", range(8)), ("margin", range(count - 8, count))):
        start = Attribution(
            (effects / np.bincount(clusters))[clusters][None],
            target_ids=["all"],
            train_ids=study.train_ids,
            output=output,
        )
        found = MetagradientDescent(8 / count, rounds=1, alpha=0.0).attribute(
            study, clusters, {"all": study.target_ids}, start, **QUIET
        )
        assert set(np.argsort(by_cluster(found, clusters))[:8]) == set(best)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"fraction": 0.0}, "fraction must lie in"),
        ({"swapped": 0.0}, "swapped in"),
        ({"rounds": 0}, "rounds=0"),
        ({"at": 400}, "at=400 must lie between 1 and steps - 1 = 399"),
        ({"alpha": 1.0}, "alpha must lie in"),
    ],
)
def test_bad_plans(plan, said):
    with pytest.raises(InputError, match=said):
        MetagradientDescent(**plan)


def test_bad_input(tmp_path):
    study, clusters = cloned(), pool().clusters()
    tasks, start = {"all": study.target_ids.tolist()}, blind(study, clusters)
    plan = MetagradientDescent(0.25, **SHORT, rounds=1)

    def descended(plan=plan, tasks=tasks, **more):
        return plan.attribute(study, clusters, tasks, start, to=tmp_path / "kept", **more, **QUIET)

    with pytest.raises(InputError, match=r"target_episodes must have one for each of .* received none"):
        descended()
    with pytest.raises(InputError, match=r"received shape \(3,\)"):
        descended(target_episodes=np.arange(3))
    with pytest.raises(InputError, match="'all' has one target episode"):
        descended(target_episodes=np.zeros(len(study.targets), int))
    with pytest.raises(InputError, match="tasks is empty"):
        descended(tasks={}, target_episodes=EPISODES)
    with pytest.raises(InputError, match="leaves nothing to swap"):
        descended(MetagradientDescent(0.001), target_episodes=EPISODES)
    with pytest.raises(InputError, match="other"):
        descended(tasks={"other": tasks["all"]}, target_episodes=EPISODES)
    assert not (tmp_path / "kept").exists()


def test_rounds_that_cannot_be_read_are_named(tmp_path):
    study, clusters = cloned(), pool().clusters()
    tasks = {"all": study.target_ids.tolist()}
    plan = MetagradientDescent(0.5, **SHORT, rounds=1, alpha=0.0)
    plan.attribute(study, clusters, tasks, blind(study, clusters), to=tmp_path, **QUIET)
    (kept,) = tmp_path.iterdir()
    for damaged in (b"no rounds", kept.read_bytes()[:100], b""):
        kept.write_bytes(damaged)
        with pytest.raises(InputError, match=r"descent-.*cannot be read .* remove it"):
            plan.attribute(study, clusters, tasks, blind(study, clusters), to=tmp_path, **QUIET)
        assert kept.read_bytes() == damaged
