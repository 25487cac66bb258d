"""Reading demonstrations: this library's files, two other layouts, LeRobot tables."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from whence.errors import InputError
from whence.study.robots import from_lerobot, read

SAMPLE = Path(__file__).with_name(
    "metaworld_sample.npz"
)  # MetaWorld's experts, driven by `generate`; MIT licence


def test_the_sample_of_metaworld():
    d = read(SAMPLE)
    assert (d.observations.shape[1], d.actions.shape[1]) == (39, 4)
    assert set(d.tasks) == {"pick-place-wall-v3", "push-v3"}
    assert d.success[d.sources == "expert"].all() and not d.success[d.sources == "early stop"].any()
    assert np.abs(d.actions).max() <= 1


def test_files_with_episode_lengths(tmp_path):
    path = tmp_path / "experts.npz"
    np.savez(
        path,
        obs=np.arange(10.0).reshape(5, 2),
        act=np.zeros((5, 1)),
        rew=np.ones(5),
        ep_len=np.array([2, 3]),
        tasks=np.array(["push", "reach"]),
        ep_task=np.array([1, 0]),
        ep_noise=np.array([0.0, 0.5]),
        ep_success=np.array([1, 0]),
    )
    d = read(path)
    assert list(d.tasks) == ["reach", "push"] and list(d.sources) == ["expert", "noise 0.5"]
    assert d.success.tolist() == [True, False] and d.rewards.sum() == 5


def test_files_of_the_imitation_library_lose_the_last_observation(tmp_path):
    path = tmp_path / "pendulum.npz"
    np.savez(
        path,
        obs=np.array([[0.0], [1], [9], [2], [3], [4], [9]]),
        acts=np.zeros((5, 1)),
        indices=np.array([2]),
    )
    d = read(path)
    assert d.lengths.tolist() == [2, 3] and d.observations[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert list(d.tasks) == ["pendulum"] * 2


def table(**columns):
    frames = {
        "observation.state": [torch.tensor([float(i), 0.0]) for i in range(5)],
        "action": np.zeros((5, 3)),
        "episode_index": torch.tensor([0, 0, 1, 1, 1]),
        "task_index": torch.tensor([1, 1, 0, 0, 0]),
        "next.success": [False, True, False, False, False],
        "next.reward": torch.arange(5.0),
    }
    return frames | columns


def test_lerobot_data_sets():
    made = SimpleNamespace(hf_dataset=table(), meta=SimpleNamespace(tasks={0: "open the drawer", 1: "push"}))
    d = from_lerobot(made)
    assert d.lengths.tolist() == [2, 3] and d.tasks.tolist() == ["push", "open the drawer"]
    assert d.success.tolist() == [True, False] and d.observations[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert d.actions.shape == (5, 3) and d.rewards.tolist() == [0, 1, 2, 3, 4]


def test_lerobot_tasks_of_version_3_are_a_frame():
    pandas = pytest.importorskip("pandas")
    tasks = pandas.DataFrame({"task_index": [0, 1]}, index=["open the drawer", "push"])
    d = from_lerobot(SimpleNamespace(hf_dataset=table(), meta=SimpleNamespace(tasks=tasks)))
    assert d.tasks.tolist() == ["push", "open the drawer"]


def test_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is not a file"):
        read(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="has the entries x, but demonstrations need observations"):
        read(tmp_path / "other.npz")
    with pytest.raises(InputError, match="no column 'state', its columns are observation"):
        from_lerobot(table(), observation="state")
    monkeypatch.setitem(__import__("sys").modules, "lerobot", None)
    with pytest.raises(InputError, match="needs lerobot; pip install lerobot"):
        from_lerobot("someone/pusht")
