"""Small demonstrations to test with: a point that is driven to a goal, well or badly."""

import numpy as np

from whence.study.robots import Demonstrations


def driven(episodes, task="reach", seed=0, length=(6, 12), mistake=0.0, source="expert", gain=1.0):
    """Episodes of a point in the plane: observation (way to the goal, position), action towards the goal,
    wrong by `mistake` radians."""
    rng = np.random.default_rng(seed)
    observations, actions, lengths = [], [], []
    turn = np.array([[np.cos(mistake), -np.sin(mistake)], [np.sin(mistake), np.cos(mistake)]])
    for _ in range(episodes):
        at, goal = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
        lengths.append(int(rng.integers(length[0], length[1] + 1)))
        for _ in range(lengths[-1]):
            action = np.clip(gain * turn @ (goal - at), -0.95, 0.95)
            observations.append(np.r_[goal - at, at])
            actions.append(action)
            at = at + 0.3 * action
    names = np.full(episodes, task), None, np.full(episodes, source)
    return Demonstrations(np.array(observations), np.array(actions), np.array(lengths), *names)
