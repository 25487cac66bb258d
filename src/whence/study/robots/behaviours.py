"""How an episode is driven: by an expert, or by one that is noisy, mistaken, tired or lost."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError

Actor = Callable[[np.ndarray], np.ndarray]
GOAL = slice(36, 39)  # where a MetaWorld observation says the goal


class Behaviour(ABC):
    """A way to drive; `name` goes into `Demonstrations.sources`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """In a few words."""

    @abstractmethod
    def start(self, expert: Any, rng: np.random.Generator) -> Actor:
        """What acts in one episode: observation ``(d,)`` to action ``(a,)`` in [-1, 1], drawn from `rng`."""


@dataclass(frozen=True)
class Expert(Behaviour):
    """The scripted expert, its actions disturbed by Gaussian `noise` (a standard deviation, in units of the
    action)."""

    noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise InputError(f"noise must be at least 0, received {self.noise}.")

    @property
    def name(self) -> str:
        """See `Behaviour`."""
        return f"noise {self.noise:g}" if self.noise else "expert"

    def start(self, expert: Any, rng: np.random.Generator) -> Actor:
        """See `Behaviour`."""

        def act(observation: np.ndarray) -> np.ndarray:
            action = _act(expert, observation)
            return np.clip(action + self.noise * rng.standard_normal(len(action)), -1, 1)

        return act


@dataclass(frozen=True)
class WrongGoal(Behaviour):
    """The expert for a goal that lies `nearest` to `farthest` metres beside the one that is shown."""

    nearest: float = 0.1
    farthest: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.nearest <= self.farthest:
            raise InputError(f"nearest={self.nearest} must lie between 0 and farthest={self.farthest}.")

    @property
    def name(self) -> str:
        """See `Behaviour`."""
        return "wrong goal"

    def start(self, expert: Any, rng: np.random.Generator) -> Actor:
        """See `Behaviour`."""
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(self.nearest, self.farthest)
        shift = length * np.array([np.cos(angle), np.sin(angle), 0.0])

        def act(observation: np.ndarray) -> np.ndarray:
            mistaken = observation.copy()
            mistaken[GOAL] += shift
            return _act(expert, mistaken)

        return act


@dataclass(frozen=True)
class EarlyStop(Behaviour):
    """The expert up to a random step, `earliest` to `latest`; then the hand stays where it is and keeps its
    grip."""

    earliest: int = 10
    latest: int = 40

    def __post_init__(self) -> None:
        if not 0 <= self.earliest <= self.latest:
            raise InputError(f"earliest={self.earliest} must lie between 0 and latest={self.latest}.")

    @property
    def name(self) -> str:
        """See `Behaviour`."""
        return "early stop"

    def start(self, expert: Any, rng: np.random.Generator) -> Actor:
        """See `Behaviour`."""
        last = int(rng.integers(self.earliest, self.latest + 1))
        taken: list[np.ndarray] = []

        def act(observation: np.ndarray) -> np.ndarray:
            if len(taken) < last:
                taken.append(_act(expert, observation))
                return taken[-1]
            still = np.zeros(4) if not taken else taken[-1].copy()
            still[:-1] = 0.0
            return still

        return act


@dataclass(frozen=True)
class RandomWalk(Behaviour):
    """Actions that wander: each is `memory` times the one before plus fresh noise, with standard deviation
    `scale`."""

    scale: float = 0.7
    memory: float = 0.9

    def __post_init__(self) -> None:
        if not (self.scale > 0 and 0 <= self.memory < 1):
            raise InputError(
                f"scale must be above 0 and memory in [0, 1), received scale={self.scale} and "
                f"memory={self.memory}."
            )

    @property
    def name(self) -> str:
        """See `Behaviour`."""
        return "random walk"

    def start(self, expert: Any, rng: np.random.Generator) -> Actor:
        """See `Behaviour`."""
        at = self.scale * rng.standard_normal(4)
        fresh = self.scale * np.sqrt(1 - self.memory**2)

        def act(observation: np.ndarray) -> np.ndarray:
            nonlocal at
            at = self.memory * at + fresh * rng.standard_normal(len(at))
            return np.clip(at, -1, 1)

        return act


def _act(expert: Any, observation: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():  # experts warn whenever they ask for more than 1, which is clipped here
        warnings.simplefilter("ignore")
        action = expert.get_action(np.asarray(observation, np.float64))
    return np.clip(np.asarray(action), -1, 1)
