"""Driving MetaWorld: the same every time, good experts and bad ones. Behaviours alone need no simulator."""

import numpy as np
import pytest

from whence.errors import InputError
from whence.study.robots import EarlyStop, Expert, RandomWalk, Simulator, WrongGoal, generate, simulator


class Straight:
    """An expert that goes where the goal is."""

    def get_action(self, observation):
        return np.r_[10 * (observation[36:39] - observation[:3]), 1.0]


def actions(behaviour, steps=60, seed=0):
    observation = np.zeros(39)
    observation[36:39] = [0.02, 0.0, 0.05]
    act = behaviour.start(Straight(), np.random.default_rng(seed))
    return np.stack([act(observation) for _ in range(steps)])


def test_behaviours_act_in_bounds_and_repeat():
    for behaviour in (Expert(), Expert(0.5), WrongGoal(), EarlyStop(), RandomWalk()):
        first = actions(behaviour)
        assert first.shape == (60, 4) and np.abs(first).max() <= 1
        np.testing.assert_array_equal(first, actions(behaviour))
    assert {b.name for b in (Expert(), Expert(0.5), WrongGoal())} == {"expert", "noise 0.5", "wrong goal"}


def test_behaviours_are_what_they_say():
    expert = actions(Expert())
    np.testing.assert_allclose(expert, np.tile([0.2, 0, 0.5, 1], (60, 1)))
    noise = actions(Expert(0.3), 4000) - expert[0]
    assert noise[:, 0].std() == pytest.approx(0.3, rel=0.05)
    wrong = actions(WrongGoal(0.05, 0.05))[0] - expert[0]
    assert np.hypot(*wrong[:2]) == pytest.approx(0.5) and (wrong[2:] == 0).all()
    stopped = actions(EarlyStop(10, 40))
    last = int(np.flatnonzero((stopped[:, :3] != 0).any(1))[-1])
    assert 9 <= last < 40 and (stopped[:, 3] == 1).all()
    walk = actions(RandomWalk(0.3, 0.9), 20_000)[:, 0]
    assert np.corrcoef(walk[1:], walk[:-1])[0, 1] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Expert(-1), "noise must be at least 0"),
        (lambda: WrongGoal(0.5, 0.1), "must lie between 0 and farthest"),
        (lambda: EarlyStop(50, 10), "must lie between 0 and latest"),
        (lambda: RandomWalk(0.5, 1.0), r"memory in \[0, 1\)"),
        (lambda: generate([], [(Expert(), 1)]), "at least one task"),
        (lambda: generate(["push-v3"], [(Expert(), 1)], horizon=900), "horizon must be 1 to 500"),
    ],
)
def test_what_cannot_be_driven_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "metaworld", None)
    with pytest.raises(InputError, match=r"pip install 'whence\[robot\]'"):
        simulator.installed()


@pytest.mark.slow
def test_metaworld_is_driven_alike_in_one_process_and_in_two():
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    behaviours = [(Expert(), 2), (WrongGoal(), 1)]
    one = generate(["reach-v3", "push-v3"], behaviours, horizon=60, progress=False)
    two = generate(["reach-v3", "push-v3"], behaviours, horizon=60, processes=2, progress=False)
    for name in ("observations", "actions", "lengths", "rewards", "success"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.episodes == 6 and one.success[one.sources == "expert"].any()
    assert one.lengths.max() <= 60


@pytest.mark.slow
def test_what_the_gripper_holds_is_told_as_by_metaworld():
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    for task in ("pick-place-wall-v3", "stick-pull-v3"):
        runs = []
        for ours in (True, False):
            env = Simulator(task, seed=5)
            if not ours:
                del env._env.touching_object  # what the simulator put over the class's own
            expert, observation = env.expert(), env.reset(0)
            steps = []
            for _ in range(80):
                observation, reward, success = env.step(expert.get_action(observation))
                steps.append([*observation, reward, success, env._env.touching_main_object])
            runs.append(np.array(steps))
        np.testing.assert_array_equal(*runs)
        assert 0 < runs[0][:, -1].mean() < 1


@pytest.mark.slow
def test_no_two_of_fifty_episodes_have_one_placement():
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    driven = generate(["push-v3"], [(Expert(), 50)], horizon=1, progress=False)
    assert len(np.unique(driven.observations, axis=0)) == 50


@pytest.mark.slow
def test_an_unknown_task_is_refused():
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    with pytest.raises(InputError, match="no MetaWorld task 'fly-v3'; tasks are"):
        Simulator("fly-v3")
