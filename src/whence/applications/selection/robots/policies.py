"""Policies trained on chosen steps: all for equally many optimiser steps, so that more data is not more
training.

A recipe counts epochs, by which a policy on a tenth of the steps would be trained a tenth as long. Here each
policy gets `steps` batches of its own choice, gone through again and again in new orders, with a share of
each batch from the target's demonstrations (co-training) where that is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from whence.errors import InputError
from whence.provenance import fingerprint
from whence.study import Study
from whence.study.robots import Demonstrations, TanhGaussian
from whence.study.robots._processes import spread
from whence.training.given import train_on_batches


@dataclass(frozen=True, eq=False)
class Policy:
    """A trained network and how to act by it: observation ``(d,)`` to ``tanh(mean)`` ``(a,)``, tanh applied
    once."""

    network: nn.Module
    loss: TanhGaussian = TanhGaussian()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """The deterministic action for one observation."""
        with torch.no_grad():
            outputs = self.network(torch.from_numpy(np.asarray(observation, np.float32))[None])
            return self.loss.action(outputs)[0].numpy()

    def mean_loss(self, demonstrations: Demonstrations) -> float:
        """Mean cloning loss on the steps of `demonstrations`, in nats."""
        with torch.no_grad():
            x, a = (torch.from_numpy(v) for v in (demonstrations.observations, demonstrations.actions))
            return float(self.loss(self.network(x), a).mean())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights."""
        return fingerprint({name: value.numpy() for name, value in self.network.state_dict().items()})


def batches(
    chosen: np.ndarray, target: np.ndarray, *, steps: int, batch_size: int, alpha: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Positions ``(steps, batch_size)`` int64: in each batch exactly ``round(alpha * batch_size)`` of
    `target`, the rest of `chosen`; either is gone through in a new order whenever it is used up.

    Raises
    ------
    InputError : alpha outside [0, 1], or nothing to draw from.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must lie in [0, 1], the share of a batch from the target, received {alpha}.")
    theirs = round(alpha * batch_size)
    for name, values, share in (("chosen", chosen, batch_size - theirs), ("target", target, theirs)):
        if share and not len(values):
            raise InputError(
                f"{name} is empty, but {share} of the {batch_size} steps of a batch come from it."
            )
    rng = np.random.default_rng([seed, 0xBA7C])
    parts = [
        _rounds(np.asarray(chosen), steps * (batch_size - theirs), rng),
        _rounds(np.asarray(target), steps * theirs, rng),
    ]
    return np.concatenate([part.reshape(steps, -1) for part in parts], axis=1)


def _rounds(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if not count:
        return np.empty(0, np.int64)
    rounds = [rng.permutation(values) for _ in range(-(-count // len(values)))]
    return np.concatenate(rounds)[:count].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Order:
    """One policy to be trained: on which steps `chosen` of the prior, with which share `alpha` of which
    `target` steps of the targets, from which `seed` (initial weights and order)."""

    chosen: np.ndarray
    seed: int = 0
    target: np.ndarray | None = None
    alpha: float = 0.0


def train_policies(
    study: Study,
    orders: Sequence[Order],
    *,
    steps: int,
    to: str | Path | None = None,
    stack: int = 8,
    processes: int = 1,
    progress: bool = True,
) -> list[Policy]:
    """Train policies of a cloning study, each for `steps` batches of its recipe's size; in order.

    Parameters
    ----------
    study : see `whence.study.robots.cloning_study`. Positions in `Order.chosen` are of its training examples,
        those in `Order.target` of its targets.
    to : a folder in which policies are kept, one file each; those that are there are not trained again.
    stack : policies that are trained at once.
    """
    loss = check_cloning(study)
    if steps < 1 or stack < 1:
        raise InputError(f"steps={steps} and stack={stack} must be at least 1.")
    both = joined(study)
    keys = [_key(study, order, steps) for order in orders]
    folder = None if to is None else Path(to)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    known = (
        {}
        if folder is None
        else {key: path for key in keys if (path := folder / f"{key}.safetensors").exists()}
    )
    wanted = list(dict.fromkeys(key for key in keys if key not in known))
    by_key = dict(zip(keys, orders, strict=True))
    parts = [wanted[start : start + stack] for start in range(0, len(wanted), stack)]
    jobs = [(both, study.n, [by_key[key] for key in part], steps, part, folder) for part in parts]
    made: dict[str, dict[str, torch.Tensor]] = {}
    for part, weights in zip(
        parts, spread(_train, jobs, processes, "training policies" if progress else None)
    ):
        made.update(zip(part, weights, strict=True))
    return [Policy(_load(study, made[key] if key in made else load_file(known[key])), loss) for key in keys]


def check_cloning(study: Study) -> TanhGaussian:
    """The loss of a cloning study; raise `InputError` where it is none."""
    loss = None if study.recipe is None else study.recipe.loss
    if not isinstance(loss, TanhGaussian):
        raise InputError(
            f"policies are trained by a Recipe with a TanhGaussian loss, received {study!r}; see "
            "cloning_study."
        )
    return loss


def joined(study: Study) -> Study:
    """The study with its targets behind its training examples, so that batches may name both."""
    both = copy.copy(study)
    both.__dict__.pop("fingerprint", None)
    train, targets = study.train, study.targets
    both.train = replace(
        train,
        count=len(train) + len(targets),
        inputs=np.concatenate([train.inputs, targets.inputs]),
        values=np.concatenate([np.asarray(train.values), np.asarray(targets.values)]),
    )
    both.n = len(both.train)
    return both


def _key(study: Study, order: Order, steps: int) -> str:
    """A short name of all that decides a policy."""
    parts = {
        "study": study.fingerprint,
        "chosen": np.asarray(order.chosen),
        "target": "none" if order.target is None else np.asarray(order.target),
        "alpha": order.alpha,
        "seed": order.seed,
        "steps": steps,
    }
    return fingerprint(parts)[:20]


Job = tuple[Any, int, list[Order], int, list[str], Path | None]


def _train(job: Job) -> list[dict[str, torch.Tensor]]:
    study, n, orders, steps, keys, folder = job
    index = np.stack(
        [
            batches(
                order.chosen,
                np.empty(0, np.int64) if order.target is None else n + np.asarray(order.target),
                steps=steps,
                batch_size=study.recipe.batch_size,
                alpha=order.alpha,
                seed=order.seed,
            )
            for order in orders
        ]
    )
    networks = train_on_batches(study, index, [order.seed for order in orders])
    found = [{k: v.contiguous() for k, v in network.state_dict().items()} for network in networks]
    if folder is not None:
        for key, weights in zip(keys, found, strict=True):
            unfinished = folder / f"{key}.part"
            save_file(weights, unfinished)
            unfinished.rename(folder / f"{key}.safetensors")
    return found


def _load(study: Study, weights: dict[str, torch.Tensor]) -> nn.Module:
    assert study.recipe is not None
    with torch.random.fork_rng(devices=[]):
        network = study.recipe.model()
    network.load_state_dict(weights)
    return network.eval()
