"""Behaviour cloning as a study: the steps of demonstrations are its examples, their actions the answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.study.recipe import Adam, Constant, Cosine, Recipe, Stairs, Triangle
from whence.study.robots.demonstrations import Demonstrations
from whence.study.robots.policy_loss import TanhGaussian
from whence.study.study import Study

# One number for 39 observed values may vary by 1e-7 in training; a policy should not amplify it a million
# times when a rollout moves it.
_LEAST_SPREAD = 1e-2
PAPER = TanhGaussian()
ONE_CYCLE = Triangle(peak=0.04, start=0.0, end=1e-3)  # warm-up over a 25th of the run, then down in a line


def cloning_recipe(
    demonstrations: Demonstrations,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Any = None,
    schedule: Constant | Triangle | Cosine | Stairs = ONE_CYCLE,
    width: int = 400,
    depth: int = 3,
    loss: TanhGaussian = PAPER,
    subset: str = "shorter",
) -> Recipe:
    """How to clone: a tanh-Gaussian perceptron by maximum likelihood, observations standardised by mean and
    spread over all `demonstrations` (no less than 0.01).

    Parameters
    ----------
    optimizer : default Adam with learning rate 2e-3, betas 0.9 and 0.99 and 1e-11 in and beside the root, at
        which metagradients of DataMIL's policies were taken.
    width, depth : of the network, see `whence.training.policies.gaussian_policy`.
    epochs, batch_size, schedule, subset : as in `Recipe`.
    """
    from whence.training.policies import gaussian_policy

    spread = np.maximum(demonstrations.observations.std(0), _LEAST_SPREAD)
    model = partial(
        gaussian_policy,
        demonstrations.observations.shape[1],
        demonstrations.actions.shape[1],
        width,
        depth,
        tuple(float(value) for value in demonstrations.observations.mean(0)),
        tuple(float(value) for value in spread),
    )
    if optimizer is None:
        optimizer = Adam(lr=2e-3, betas=(0.9, 0.99), eps=1e-11, eps_root=1e-11)
    return Recipe(model, epochs, batch_size, optimizer, schedule, subset=subset, loss=loss)


def cloning_study(
    prior: Demonstrations, targets: Demonstrations, recipe: Recipe, name: str = "behaviour cloning"
) -> Study:
    """A study whose training examples are the steps of `prior` and whose targets are those of `targets`; its
    output is the cloning loss in nats, so lower is better.

    Training ids are the positions of the steps, target ids "task/episode/step".

    Raises
    ------
    InputError : observations or actions of another size, actions outside [-1, 1], an episode of `targets`
        that is in `prior` too.
    """
    prior.check_like(targets, "targets")
    for what, demonstrations in (("prior", prior), ("targets", targets)):
        largest = float(np.abs(demonstrations.actions).max())
        if largest > 1 + 1e-6:
            raise InputError(
                f"actions of {what} reach {largest:g}, but a tanh policy acts within [-1, 1]; scale "
                "them first."
            )
    shared = shared_episodes(prior, targets)
    if len(shared):
        raise InputError(
            f"target episode {int(shared[0])} is in prior too, so its loss says nothing about what helps on "
            "new ones; hold it out."
        )
    return Study(
        (prior.observations, prior.actions),
        (targets.observations, targets.actions),
        recipe,
        ["loss"],
        target_ids=target_ids(targets),
        name=name,
    )


def target_ids(targets: Demonstrations) -> list[str]:
    """ "task/episode/step" for each step, episodes numbered from 0 in order."""
    return [
        f"{targets.tasks[episode]}/{episode}/{step}"
        for episode, step in zip(targets.episode_of.tolist(), targets.step_of.tolist(), strict=True)
    ]


def target_groups(targets: Demonstrations) -> dict[str, list[str]]:
    """Task -> ids of its steps, for what averages over a task's demonstrations."""
    ids = np.array(target_ids(targets))
    return {
        str(task): ids[targets.tasks[targets.episode_of] == task].tolist()
        for task in dict.fromkeys(targets.tasks)
    }


def shared_episodes(prior: Demonstrations, targets: Demonstrations) -> np.ndarray:
    """Episodes of `targets` that equal one of `prior`, step by step."""

    def content(demonstrations: Demonstrations, episode: int) -> bytes:
        start = int(demonstrations.starts[episode])
        part = slice(start, start + int(demonstrations.lengths[episode]))
        return demonstrations.observations[part].tobytes() + demonstrations.actions[part].tobytes()

    known = {hash(content(prior, episode)) for episode in range(prior.episodes)}
    return np.array(
        [e for e in range(targets.episodes) if hash(content(targets, e)) in known], dtype=np.int64
    )
