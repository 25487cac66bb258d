"""Demonstrations from files and to them: ``.npz`` of this library and of two others, LeRobot data sets.

Nothing is unpickled: an entry of an ``.npz`` that only a pickle could hold is not read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.study.robots.demonstrations import Demonstrations

_OWN = ("observations", "actions", "lengths", "tasks")
_EPISODES = ("obs", "act", "ep_len")
_IMITATION = ("obs", "acts", "indices")


def write(demonstrations: Demonstrations, path: str | os.PathLike[str]) -> None:
    """Write an ``.npz`` that `read` takes."""
    names = (*_OWN, "success", "sources", "rewards")
    arrays = {name: getattr(demonstrations, name) for name in names}
    known = {name: value for name, value in arrays.items() if value is not None}
    with open(path, "wb") as file:  # a name without ending stays as it is
        np.savez_compressed(file, **known)


def read(path: str | os.PathLike[str], task: str | None = None) -> Demonstrations:
    """Demonstrations of an ``.npz`` file.

    Three layouts are known by their entries: that of `Demonstrations.save`; ``obs, act, ep_len`` with
    ``tasks, ep_task, ep_success, ep_noise, rew``; and that of the imitation library, ``obs, acts, indices``,
    whose episodes have one observation more than actions (the last one is dropped).

    Parameters
    ----------
    task : what to call the task where the file does not say; default the file's name.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{str(path)!r} is not a file; name an .npz of demonstrations.")
    with np.load(path, allow_pickle=False) as archive:
        names = set(archive.files)
        if names >= set(_OWN):
            return Demonstrations(**{name: archive[name] for name in names if name in _FIELDS})
        if names >= set(_EPISODES):
            return _of_episodes(archive, task or path.stem)
        if names >= set(_IMITATION):
            return _of_imitation(archive, task or path.stem)
    raise InputError(
        f"{str(path)!r} has the entries {', '.join(sorted(names))}, but demonstrations need "
        f"{', '.join(_OWN)}, or {', '.join(_EPISODES)}, or {', '.join(_IMITATION)}."
    )


_FIELDS = (*_OWN, "success", "sources", "rewards")


def _of_episodes(archive: Any, task: str) -> Demonstrations:
    lengths = archive["ep_len"].astype(np.int64)
    tasks = np.full(len(lengths), task)
    if "tasks" in archive and "ep_task" in archive:
        tasks = np.asarray(archive["tasks"]).astype(str)[archive["ep_task"]]
    sources = None
    if "ep_noise" in archive:
        sources = np.array([f"noise {noise:g}" if noise else "expert" for noise in archive["ep_noise"]])
    success = archive["ep_success"] == 1 if "ep_success" in archive else None
    rewards = archive["rew"] if "rew" in archive else None
    return Demonstrations(archive["obs"], archive["act"], lengths, tasks, success, sources, rewards)


def _of_imitation(archive: Any, task: str) -> Demonstrations:
    actions, cuts = archive["acts"], archive["indices"].astype(np.int64)
    lengths = np.diff(np.r_[0, cuts, len(actions)])
    observations = archive["obs"]
    if len(observations) == len(actions) + len(lengths):
        last = np.cumsum(lengths + 1) - 1
        observations = np.delete(observations, last, axis=0)
    rewards = archive["rews"] if "rews" in archive else None
    return Demonstrations(
        observations.reshape(len(observations), -1),
        actions.reshape(len(actions), -1),
        lengths,
        np.full(len(lengths), task),
        rewards=rewards,
    )


def from_lerobot(
    dataset: Any, observation: str = "observation.state", action: str = "action"
) -> Demonstrations:
    """Demonstrations of a LeRobot data set: one array of observed values and one of actions.

    Parameters
    ----------
    dataset : a ``LeRobotDataset``, or the name of one (repository id), which needs `lerobot`.
    observation, action : the columns to read, vectors or numbers; pictures are not read.

    Raises
    ------
    InputError : `lerobot` is not installed, or a column is missing.
    """
    if isinstance(dataset, str | os.PathLike):
        dataset = _lerobot()(os.fspath(dataset))
    table = getattr(dataset, "hf_dataset", dataset)
    columns = list(getattr(table, "column_names", None) or table)
    absent = [name for name in (observation, action, "episode_index") if name not in columns]
    if absent:
        raise InputError(
            f"the data set has no column {absent[0]!r}, its columns are {', '.join(columns)}; name "
            "observation=... and action=..."
        )
    episode = _column(table, "episode_index").reshape(-1)
    order = np.argsort(episode, kind="stable")  # frames of an episode follow each other already
    _, lengths = np.unique(episode, return_counts=True)
    first = order[np.cumsum(lengths) - lengths]
    tasks = np.full(len(lengths), "")
    if "task_index" in columns:
        names = _task_names(getattr(getattr(dataset, "meta", None), "tasks", None))
        numbers = _column(table, "task_index").reshape(-1)[first].astype(int)
        tasks = np.array([names.get(number, str(number)) for number in numbers.tolist()])
    success = None
    if "next.success" in columns:
        ended = _column(table, "next.success").reshape(-1)[order].astype(bool)
        success = np.logical_or.reduceat(ended, np.cumsum(lengths) - lengths)
    rewards = _column(table, "next.reward").reshape(-1)[order] if "next.reward" in columns else None
    return Demonstrations(
        _column(table, observation).reshape(len(episode), -1)[order],
        _column(table, action).reshape(len(episode), -1)[order],
        lengths,
        tasks,
        success,
        rewards=rewards,
    )


def _lerobot() -> Any:
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError:
        try:  # where it was in releases before 0.4
            from lerobot.common.datasets.lerobot_dataset import LeRobotDataset
        except ImportError:
            raise InputError(
                "reading a LeRobot data set by its name needs lerobot; pip install lerobot."
            ) from None
    return LeRobotDataset


def _column(table: Any, name: str) -> np.ndarray:
    values = table[name]
    if hasattr(values, "detach"):
        return np.asarray(values.detach().cpu())
    return np.asarray(
        [value.detach().cpu().numpy() if hasattr(value, "detach") else value for value in values]
    )


def _task_names(tasks: Any) -> dict[int, str]:
    """Number to words: a dict in version 2 of the format, a data frame with the words as index in version
    3."""
    if tasks is None:
        return {}
    if hasattr(tasks, "task_index"):
        return {int(number): str(words) for words, number in tasks["task_index"].items()}
    return {int(number): str(words) for number, words in tasks.items()}
