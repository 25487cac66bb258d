"""Demonstrations from MetaWorld's scripted experts, good and bad ones."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import numpy as np

from whence.errors import InputError
from whence.study.robots._processes import spread
from whence.study.robots.behaviours import Behaviour
from whence.study.robots.demonstrations import Demonstrations
from whence.study.robots.simulator import GOALS, LONGEST, Simulator, installed

_TOGETHER = 10  # episodes of one task that a process drives at once, so that it builds the task once
Job = tuple[str, list[tuple[Behaviour, int]], int, int, int]
Episode = tuple[np.ndarray, np.ndarray, np.ndarray, bool]


def generate(
    tasks: Sequence[str],
    behaviours: Sequence[tuple[Behaviour, int]],
    *,
    seed: int = 0,
    horizon: int = 150,
    linger: int = 10,
    successful: bool = False,
    processes: int = 1,
    progress: bool = True,
) -> Demonstrations:
    """Drive MetaWorld tasks and record every step: what was observed and the action that was carried out.

    The same arguments give the same demonstrations, whatever `processes` is. Episodes come task by task and
    within a task behaviour by behaviour. The first 50 episodes of a behaviour at a task differ in where
    objects and goals are; MetaWorld has no more placements for one seed.

    Parameters
    ----------
    tasks : names such as "pick-place-wall-v3".
    behaviours : pairs (how to drive, how many episodes of each task).
    seed : of placements and of all that is random in a behaviour.
    horizon : an episode ends after so many steps.
    linger : it ends so many steps after the task was solved, so that policies learn to stay.
    successful : drive on until each behaviour has so many episodes that solved the task (for experts that
        sometimes fail); at most ten times as many are tried.
    processes : worker processes.

    Raises
    ------
    InputError : no such task, nothing to drive, or no `metaworld`.
    """
    if not tasks or not behaviours or min(count for _, count in behaviours) < 1:
        raise InputError("name at least one task and one behaviour, with at least one episode of each.")
    if not 1 <= horizon <= LONGEST or linger < 0:
        raise InputError(
            f"horizon must be 1 to {LONGEST} steps and linger at least 0, received {horizon} and {linger}."
        )
    installed()
    wanted = {(task, b.name): count for task in tasks for b, count in behaviours}
    if len(wanted) < len(tasks) * len(behaviours):
        raise InputError("a task or a behaviour is named twice; add up their episodes.")
    found: dict[tuple[str, str], list[Episode]] = {key: [] for key in wanted}
    for round_ in range(10 if successful else 1):
        jobs: list[Job] = []
        for task in tasks:
            lack = [
                (b, number)
                for b, count in behaviours
                for number in range(round_ * count, (round_ + 1) * count)
                if len(found[task, b.name]) < count
            ]
            for start in range(0, len(lack), _TOGETHER):
                jobs.append((task, lack[start : start + _TOGETHER], seed, horizon, linger))
        for job, episodes in zip(jobs, spread(_drive, jobs, processes, "driving" if progress else None)):
            for (behaviour, _), episode in zip(job[1], episodes, strict=True):
                key = job[0], behaviour.name
                if len(found[key]) < wanted[key] and (episode[3] or not successful):
                    found[key].append(episode)
        if not successful or all(len(found[key]) == count for key, count in wanted.items()):
            break
    short = [f"{name} at {task}" for (task, name), count in wanted.items() if len(found[task, name]) < count]
    if short:
        raise InputError(f"too few episodes succeeded: {', '.join(short)}; use a longer horizon or fewer.")
    flat = [(key, episode) for key, episodes in found.items() for episode in episodes]
    return Demonstrations(
        np.concatenate([episode[0] for _, episode in flat]),
        np.concatenate([episode[1] for _, episode in flat]),
        np.array([len(episode[0]) for _, episode in flat]),
        np.array([key[0] for key, _ in flat]),
        np.array([episode[3] for _, episode in flat]),
        np.array([key[1] for key, _ in flat]),
        np.concatenate([episode[2] for _, episode in flat]),
    )


@functools.lru_cache(maxsize=4)
def simulator(task: str, seed: int) -> Simulator:
    """One for each task and seed of a process: building it takes as long as an episode."""
    return Simulator(task, seed)


def _drive(job: Job) -> list[Episode]:
    task, episodes, seed, horizon, linger = job
    return [_episode(task, behaviour, number, seed, horizon, linger) for behaviour, number in episodes]


def _episode(task: str, behaviour: Behaviour, number: int, seed: int, horizon: int, linger: int) -> Episode:
    words = zlib.crc32(task.encode()), zlib.crc32(behaviour.name.encode())
    # Placements in random order, none twice before all were used: an expert would drive the same episode
    # again, and what is held out would be a copy of what is not.
    placements = np.random.default_rng([seed, *words]).permutation(GOALS)
    rng = np.random.default_rng([seed, *words, number])
    env = simulator(task, seed)
    observation = env.reset(int(placements[number % GOALS]))
    act = behaviour.start(env.expert(), rng)
    observations, actions, rewards = [], [], []
    solved, left = False, horizon
    while left > 0:
        action = act(observation).astype(np.float32)
        observations.append(observation)
        actions.append(action)
        observation, reward, success = env.step(action)
        rewards.append(reward)
        left -= 1
        if success and not solved:
            solved, left = True, min(left, linger)
    return np.stack(observations), np.stack(actions), np.array(rewards, np.float32), solved
