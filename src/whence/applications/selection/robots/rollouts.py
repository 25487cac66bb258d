"""Rollouts: what share of episodes a policy solves in the simulator, at any step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.intervals import wilson
from whence.study.robots._processes import spread
from whence.study.robots.generation import simulator
from whence.study.robots.simulator import GOALS, LONGEST, installed

REPORTED = 424_242  # seed of the placements that results are reported on, far from those of demonstrations
_STILL = 1e-5  # metres, and what else an observation holds


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Episodes of one policy at one task.

    Attributes
    ----------
    success : boolean ``(episodes,)``, whether the task was solved at any step.
    lengths : int64 ``(episodes,)``, steps until it was solved or the episode ended.
    """

    task: str
    success: np.ndarray
    lengths: np.ndarray

    @property
    def rate(self) -> float:
        """Share of episodes that were solved."""
        return float(self.success.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `rate`, over episodes of this one policy."""
        return wilson(int(self.success.sum()), len(self.success))


@dataclass(frozen=True)
class Trials:
    """Rollouts to choose by, from placements other than those that results are reported on.

    Parameters
    ----------
    episodes, horizon, seed : see `roll_out`.

    Raises
    ------
    InputError : the seed of the placements that are reported on, more episodes or steps than there are.
    """

    episodes: int = 10
    horizon: int = LONGEST
    seed: int = 515_151

    def __post_init__(self) -> None:
        _check(self.episodes, self.horizon)
        if self.seed == REPORTED:
            raise InputError(
                f"seed={self.seed} of the trials has the placements that are reported on; pass another."
            )


def roll_out(
    policies: Sequence[Any],
    tasks: Sequence[str],
    *,
    episodes: int = 50,
    horizon: int = LONGEST,
    still: int = 25,
    seed: int = 0,
    to: str | Path | None = None,
    processes: int = 1,
    progress: bool = True,
) -> list[Rollouts]:
    """Roll out each policy at the task beside it.

    An episode ends when the task is solved, after `horizon` steps, or when nothing has moved for `still`
    steps: the policy is deterministic, so it would stay there.

    Parameters
    ----------
    policies : each a function (of a kind that can be pickled) from an observation ``(d,)`` to an action
        ``(a,)``, with a `fingerprint` where `to` is given; `Policy` is one.
    tasks : names of MetaWorld tasks, one for each policy.
    episodes : placements 0 to ``episodes - 1`` of those that belong to `seed`, at most 50.
    seed : of the placements; not that of demonstrations, or policies are tested where they were shown.
    to : a folder in which results are kept; a policy that was rolled out alike is not again.
    processes : worker processes.

    Raises
    ------
    InputError : no `metaworld`, more episodes than placements.
    """
    if len(policies) != len(tasks):
        raise InputError(f"name one task for each policy, received {len(tasks)} for {len(policies)}.")
    _check(episodes, horizon)
    if still < 2:
        raise InputError(f"still must be at least 2, received {still}.")
    folder = None if to is None else Path(to)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    how = {"episodes": episodes, "horizon": horizon, "still": still, "seed": seed}
    files = [
        None if folder is None else folder / f"{_key(p, task, how)}.json" for p, task in zip(policies, tasks)
    ]
    missing = [i for i, file in enumerate(files) if file is None or not file.exists()]
    if missing:
        check_simulator()
    # by task, so that a process builds few simulators
    missing.sort(key=lambda i: tasks[i])
    jobs = [(policies[i], tasks[i], episodes, horizon, still, seed, files[i]) for i in missing]
    found: dict[int, Rollouts] = {}
    for i, result in zip(missing, spread(_roll_out, jobs, processes, "rolling out" if progress else None)):
        found[i] = result
    return [found[i] if i in found else _load(files[i], tasks[i]) for i in range(len(policies))]


def check_simulator() -> None:
    """Raise `InputError` where there is no MetaWorld to roll out in."""
    installed()


def _check(episodes: int, horizon: int) -> None:
    if not 1 <= episodes <= GOALS:
        raise InputError(f"episodes must be 1 to {GOALS}, the placements of a seed, received {episodes}.")
    if not 1 <= horizon <= LONGEST:
        raise InputError(f"horizon must be 1 to {LONGEST}, received {horizon}.")


def _roll_out(job: tuple[Any, str, int, int, int, int, Path | None]) -> Rollouts:
    policy, task, episodes, horizon, still, seed, file = job
    env = simulator(task, seed)
    ends = [_episode(env, policy, goal, horizon, still) for goal in range(episodes)]
    result = Rollouts(task, np.array([end[0] for end in ends]), np.array([end[1] for end in ends]))
    if file is not None:
        unfinished = file.with_suffix(".part")
        plain = {"success": result.success.tolist(), "lengths": result.lengths.tolist()}
        unfinished.write_text(json.dumps(plain))
        unfinished.rename(file)
    return result


def _episode(env: Any, policy: Any, goal: int, horizon: int, still: int) -> tuple[bool, int]:
    observation = env.reset(goal)
    rest = 0
    for step in range(1, horizon + 1):
        before = observation
        observation, _, success = env.step(policy(observation))
        if success:
            return True, step
        rest = rest + 1 if np.abs(observation - before).max() < _STILL else 0
        if rest >= still:
            return False, step
    return False, horizon


def _key(policy: Any, task: str, how: dict[str, int]) -> str:
    name = getattr(policy, "fingerprint", None)
    if name is None:
        raise InputError(
            "results are kept under a policy's fingerprint, and this one has none; leave `to` out."
        )
    return hashlib.sha256(json.dumps([name, task, how]).encode()).hexdigest()[:20]


def _load(file: Path | None, task: str) -> Rollouts:
    assert file is not None
    plain = json.loads(file.read_text())
    return Rollouts(task, np.array(plain["success"], dtype=bool), np.array(plain["lengths"]))
