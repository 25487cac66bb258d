"""An ensemble's gradients in a store, and its targets ready to be scored with: what TRAK does when it
streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from whence.errors import InputError
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import Checkpoint
from whence.methods.gradients.network import Network
from whence.methods.gradients.plan import Forecast, forecast
from whence.methods.gradients.projection import Projection, project
from whence.methods.gradients.store import GradientStore
from whence.methods.gradients.streaming import preconditioned
from whence.training.reproducible import reproducible


@dataclass(frozen=True)
class Stored:
    """What is left to do after the gradients: products of queries and stored rows.

    Attributes
    ----------
    names : of the checkpoints
    queries : for each ridge, each checkpoint's key and (targets, size) solved by its Gram matrix
    weights : (n,) `pulls` of each checkpoint
    """

    store: GradientStore
    plan: Forecast
    names: list[str]
    queries: list[list[tuple[str, torch.Tensor]]]
    weights: list[np.ndarray]


def prepare(
    network: Network,
    given: Sequence[Checkpoint],
    *,
    path: str,
    study: str,
    projection: int,
    seed: int,
    memory: int,
    ridges: Sequence[float],
    blocks: int,
    write_scores: bool,
    groups: Sequence[Sequence[int]] | None = None,
) -> Stored:
    """Fill the store at `path` where it has gaps, and solve the targets' gradients, or the means of those in
    each of `groups`; the forecast is printed before."""
    check(network.load(given[0]), network.linear, ridge=min(ridges))
    plan = forecast(
        network,
        network.linear,
        size=projection,
        checkpoints=len(given),
        memory=memory,
        write_scores=write_scores,
        ridges=len(ridges),
    )
    store = GradientStore(
        path,
        study=study,
        n=len(network.train.y),
        size=projection,
        what=network.linear_name,
        seed=seed,
        block=plan.block,
    )
    if store.block > plan.block:
        raise InputError(
            f"{path} has blocks of {store.block:,} rows, but memory allows {plan.block:,}; raise memory, or "
            "name another store."
        )
    plan.print()
    queries: list[list[tuple[str, torch.Tensor]]] = [[] for _ in ridges]
    weights = []
    for number, checkpoint in enumerate(given):
        if number:
            check(network.load(checkpoint), network.linear, ridge=min(ridges))
        key = store.fill(network, network.linear, number=number, batch=plan.batch)
        weights.append(pulls(network, plan.batch).numpy())
        drawn = Projection(projection, seed + number)
        rows = means(project(network, network.targets, network.output, drawn, plan.batch).cpu(), groups)
        del drawn
        for found, solved in zip(queries, preconditioned(store, key, rows, ridges, blocks), strict=True):
            found.append((key, solved))
    return Stored(store, plan, [checkpoint.name for checkpoint in given], queries, weights)


def means(rows: torch.Tensor, groups: Sequence[Sequence[int]] | None) -> torch.Tensor:
    """The mean row of each group of positions (groups, ...); None leaves rows as they are."""
    if groups is None:
        return rows
    return torch.stack([rows[list(group)].mean(0) for group in groups])


def pulls(network: Network, batch: int = 512) -> torch.Tensor:
    """How hard each training example pulls at what TRAK linearises (`Network.pull`), (n,) float64 on the
    CPU."""
    # One array from the start: small results kept between large batches pin the heap that lies before them.
    found = torch.empty(len(network.train.y), dtype=torch.float64)
    with torch.no_grad(), reproducible(network.device):
        for part, x, y in network.batches(network.train, batch):
            found[part] = network.pull(network.module(x), y).cpu()
    return found
