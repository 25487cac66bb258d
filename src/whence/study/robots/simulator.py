"""One MetaWorld task, with goals that are chosen rather than drawn (Yu et al. 2020; Gymnasium's MT1).

Built by ``gymnasium.make("Meta-World/MT1")``: a MetaWorld class built by hand hides the goal from the
observation unless private flags are set, and its experts then fail.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from whence.errors import InputError

GOALS = 50  # placements of objects and goals that MetaWorld draws for one seed
LONGEST = 500  # steps, MetaWorld's own limit


def installed() -> Any:
    """The modules (gymnasium, metaworld), or an `InputError` that says how to get them."""
    try:
        import gymnasium
        import metaworld
    except ImportError:
        raise InputError("MetaWorld needs the robot extra; pip install 'whence[robot]'.") from None
    return gymnasium, metaworld


def check_task(task: str) -> None:
    """`InputError` where MetaWorld is not installed or has no such task."""
    installed()
    from metaworld.policies import ENV_POLICY_MAP

    if task not in ENV_POLICY_MAP:
        raise InputError(f"there is no MetaWorld task {task!r}; tasks are {', '.join(ENV_POLICY_MAP)}.")


class Simulator:
    """A MetaWorld task such as "pick-place-wall-v3", with the goal in the observation.

    Parameters
    ----------
    task : name of the task.
    seed : of the placements; each seed has `GOALS` of them.

    Raises
    ------
    InputError : the robot extra is not installed, or there is no such task.
    """

    def __init__(self, task: str, seed: int = 0) -> None:
        check_task(task)
        gymnasium, _ = installed()
        from metaworld.policies import ENV_POLICY_MAP

        self.task: str = task
        self._expert: Any = ENV_POLICY_MAP[task]
        with warnings.catch_warnings():  # about bounds of its own observations
            warnings.simplefilter("ignore")
            made = gymnasium.make("Meta-World/MT1", env_name=task, seed=seed)
        self._goals = made.get_wrapper_attr("tasks")
        self._env: Any = made.unwrapped
        # MetaWorld goes through all contacts twice in Python, a third of the time of a step
        self._env.touching_object = partial(_held, self._env.data)

    def expert(self) -> Any:
        """A fresh scripted expert: ``get_action(observation) -> action`` (not clipped)."""
        return self._expert()

    def reset(self, goal: int) -> np.ndarray:
        """The first observation float32 ``(39,)`` with placement number `goal`, 0 to 49."""
        self._env.set_task(self._goals[goal % len(self._goals)])
        observation, _ = self._env.reset()
        return np.asarray(observation, np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Observation, reward and whether the task is solved, after an action in [-1, 1]."""
        observation, reward, _, _, info = self._env.step(np.clip(np.asarray(action, np.float64), -1, 1))
        return np.asarray(observation, np.float32), float(reward), bool(info["success"] > 0)


def _held(data: Any, geom: int) -> bool:
    """Whether both pads of the gripper press on `geom`: MetaWorld's `touching_object`, to the bit."""
    geoms, rows = data.contact.geom, data.contact.efc_address
    at = np.flatnonzero((geoms == geom).any(axis=1))
    pads = (data.geom(f"{side}pad_geom").id for side in ("left", "right"))
    return all(sum(data.efc_force[rows[i]] for i in at if pad in geoms[i]) > 0 for pad in pads)
