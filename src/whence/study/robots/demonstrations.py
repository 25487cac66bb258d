"""Demonstrations: episodes of observations and actions, laid end to end, with what is known of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.errors import InputError


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes, one after the other; a step is an observation and the action that was taken in it.

    Attributes
    ----------
    observations : float32 ``(N, d)``. actions : float32 ``(N, a)``.
    lengths : int64 ``(E,)``, steps of each episode; they add up to N.
    tasks : str ``(E,)``, the task an episode is of.
    success : boolean ``(E,)``, whether it succeeded, or None where that is not known.
    sources : str ``(E,)``, how it came about ("expert", "wrong goal", a file), "" where that is not known.
    rewards : float32 ``(N,)`` or None.

    Raises
    ------
    InputError : arrays that do not fit together, an episode without steps, values that are not finite.
    """

    observations: np.ndarray = field(repr=False)
    actions: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    tasks: np.ndarray = field(repr=False)
    success: np.ndarray | None = field(default=None, repr=False)
    sources: np.ndarray | None = field(default=None, repr=False)
    rewards: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        lengths = np.asarray(self.lengths)
        if lengths.ndim != 1 or not len(lengths) or lengths.dtype.kind not in "iu" or lengths.min() < 1:
            raise InputError(
                "lengths must be whole numbers of steps, at least 1 for each of at least one episode, "
                f"received shape {lengths.shape} of {lengths.dtype}."
            )
        steps, episodes = int(lengths.sum()), len(lengths)
        for name, wanted, dims in (
            ("observations", steps, 2),
            ("actions", steps, 2),
            ("rewards", steps, 1),
            ("tasks", episodes, 1),
            ("success", episodes, 1),
            ("sources", episodes, 1),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            if array.ndim != dims or len(array) != wanted:
                per = "step" if wanted == steps and name not in ("tasks", "success", "sources") else "episode"
                raise InputError(
                    f"{name} must have {dims} dimension{'s' * (dims > 1)} and one entry for each {per}, "
                    f"{wanted} by the lengths, received shape {array.shape}."
                )
            kind = {"tasks": str, "sources": str, "success": bool}.get(name, np.float32)
            if kind is np.float32 and not np.isfinite(array.astype(np.float64)).all():
                row = int(np.flatnonzero(~np.isfinite(array.astype(np.float64)).reshape(steps, -1).all(1))[0])
                raise InputError(
                    f"{name} hold NaN or infinite values, first in step {row}; leave that episode out."
                )
            object.__setattr__(self, name, array.astype(kind))
        object.__setattr__(self, "lengths", lengths.astype(np.int64))
        if self.sources is None:
            object.__setattr__(self, "sources", np.full(episodes, ""))

    @property
    def steps(self) -> int:
        """Steps N of all episodes."""
        return len(self.observations)

    @property
    def episodes(self) -> int:
        """Number of episodes E."""
        return len(self.lengths)

    @property
    def starts(self) -> np.ndarray:
        """Position of the first step of each episode, int64 ``(E,)``."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def episode_of(self) -> np.ndarray:
        """The episode that each step belongs to, int64 ``(N,)``."""
        return np.repeat(np.arange(self.episodes), self.lengths)

    @property
    def step_of(self) -> np.ndarray:
        """The number of each step within its episode, int64 ``(N,)``."""
        return np.arange(self.steps) - np.repeat(self.starts, self.lengths)

    def steps_of(self, episodes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Positions of the steps of some episodes, int64, ascending."""
        wanted = np.zeros(self.episodes, dtype=bool)
        wanted[np.asarray(episodes, dtype=np.int64)] = True
        return np.flatnonzero(wanted[self.episode_of])

    def take(self, episodes: Sequence[int] | np.ndarray) -> Demonstrations:
        """Some episodes, by position or by a boolean mask ``(E,)``, in their order here."""
        chosen = np.asarray(episodes)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else np.unique(chosen.astype(np.int64))
        if not len(chosen):
            raise InputError("no episode was chosen; demonstrations have at least one.")
        at = self.steps_of(chosen)
        return Demonstrations(
            self.observations[at],
            self.actions[at],
            self.lengths[chosen],
            self.tasks[chosen],
            None if self.success is None else self.success[chosen],
            None if self.sources is None else self.sources[chosen],
            None if self.rewards is None else self.rewards[at],
        )

    def of_task(self, task: str) -> Demonstrations:
        """The episodes of one task."""
        if task not in self.tasks:
            raise InputError(
                f"there is no episode of {task!r}; tasks are {', '.join(np.unique(self.tasks))}."
            )
        return self.take(self.tasks == task)

    def clusters(self, length: int | None = None) -> np.ndarray:
        """Cluster ids ``(N,)`` int64, numbered from 0 in order: whole episodes, or pieces of `length` steps.

        The last piece of an episode has what is left, so clusters are of unequal length: an effect that is
        summed over a cluster grows with it, one that is averaged does not.
        """
        if length is None:
            return self.episode_of
        if length < 1:
            raise InputError(f"length must be at least 1 step, received {length}.")
        pieces = -(-self.lengths // length)
        first = np.cumsum(pieces) - pieces
        return np.repeat(first, self.lengths) + self.step_of // length

    def check_like(self, other: Demonstrations, what: str = "the other demonstrations") -> None:
        """InputError unless `other` has observations and actions of the same size."""
        mine = self.observations.shape[1], self.actions.shape[1]
        theirs = other.observations.shape[1], other.actions.shape[1]
        if mine != theirs:
            raise InputError(
                f"{what} have observations of size {theirs[0]} and actions of size {theirs[1]}, where "
                f"{mine[0]} and {mine[1]} are wanted; one policy cannot learn from both."
            )

    @classmethod
    def concatenate(cls, parts: Sequence[Demonstrations]) -> Demonstrations:
        """Several, one after the other; success and rewards only where all know them."""
        if not parts:
            raise InputError("parts is empty; pass at least one set of demonstrations.")
        for i, part in enumerate(parts[1:], 1):
            parts[0].check_like(part, f"demonstrations number {i}")

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if any(value is None for value in values) else np.concatenate(values)

        names = ("observations", "actions", "lengths", "tasks", "success", "sources", "rewards")
        return cls(**{name: joined(name) for name in names})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` that `read` takes."""
        from whence.study.robots.files import write

        write(self, path)

    def __repr__(self) -> str:
        sizes = f"{self.observations.shape[1]} observed, {self.actions.shape[1]} actions"
        return (
            f"<Demonstrations: {self.episodes:,} episodes of {len(np.unique(self.tasks))} tasks, "
            f"{self.steps:,} steps, {sizes}>"
        )
