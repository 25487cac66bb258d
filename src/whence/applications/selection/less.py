"""LESS: choose by the alignment of optimiser updates with target gradients along a warm-up run.

Xia, Malladi, Gururangan, Arora, Chen 2024 (arXiv 2402.04333), in the form of the released code
(princeton-nlp/LESS): see `Less`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.errors import InputError
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import Checkpoint
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Flat, Piece, Tensors
from whence.methods.gradients.projection import Projection
from whence.study.recipe import Adam
from whence.subsets import Subsets
from whence.training.loop import train_one
from whence.training.step import State, Step
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.training.data import OnDemand, Resident

_EPS = 1e-8  # inside the square root, as released
_VALUES = 32_000_000  # numbers of formed gradients held at once


class Moment(NamedTuple):
    """The run at the end of an epoch: its weights, the optimiser's moments, its mean learning rate."""

    checkpoint: Checkpoint
    moments: dict[str, Tensors]
    rate: float


@dataclass(frozen=True, eq=False)
class Less(Selector):
    """Sum over the epochs of a warm-up run of (mean learning rate, as a share) x (cosine of update and
    gradient).

    The run trains on a random share of the candidates. At the end of each epoch a candidate's feature is the
    update that Adam would make of its gradient g, ``m' / sqrt(v' + 1e-8)`` with ``m' = b1 m + (1 - b1) g``,
    ``v' = b2 v + (1 - b2) g^2`` from the moments m, v stored there, without bias correction; a target's is
    its plain gradient. Both are projected at random and brought to unit length. Scores are means over the
    examples of a subtask, and the largest over subtasks.

    Differences from the release: the whole network trains, with the study's recipe, in place of adapters of
    rank 128 and AdamW at 2e-5; the projection is this library's (random signs in random places; a dense one
    of 8,192 dimensions would cost as much as many trainings on a CPU). With SGD there are no second moments
    and the plain gradient is taken, as the release does for its "sgd".

    Parameters
    ----------
    share : of the candidates in the warm-up, at least 2.
    epochs : of the warm-up.
    projection : dimensions.
    subtasks : name -> ids of targets of the study; None takes the targets as one.
    device : "cpu", "cuda", ...
    """

    share: float = 0.05
    epochs: int = 4
    projection: int = 8192
    subtasks: Mapping[str, Sequence[Any]] | None = None
    device: str | None = None
    name: str = "LESS"
    needs: ClassVar[tuple[str, ...]] = ("inputs", "answers", "training")

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.epochs < 1 or self.projection < 1:
            raise InputError(
                f"share={self.share} must lie above 0 and be at most 1, epochs={self.epochs} and projection="
                f"{self.projection} be at least 1."
            )

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) in [-1, 1]."""
        similar = pool.remember(self, lambda: self._all_targets(pool, seed), seed)
        groups = self._subtasks(pool)
        means = torch.stack([similar[:, index].mean(1) for index in groups], 1)
        return means.max(1).values.double().numpy()

    def _subtasks(self, pool: Pool) -> list[np.ndarray]:
        """Positions in the study of each subtask's targets, those outside of the pool left out."""
        if self.subtasks is None:
            return [pool.target_index]
        place = dict(zip(pool.target_ids.tolist(), pool.target_index.tolist(), strict=True))
        found = [np.array([place[i] for i in ids if i in place], np.int64) for ids in self.subtasks.values()]
        if not any(len(index) for index in found):
            raise InputError(f"none of the subtasks of {self.name} has a target example of {pool.task!r}.")
        return [index for index in found if len(index)]

    def _all_targets(self, pool: Pool, seed: int) -> torch.Tensor:
        """(n, targets of the study) weighted cosines."""
        network = Network(pool.study, "loss", self.device)
        moments = warm_up(pool, self.share, self.epochs, seed, self.device)
        whole = sum(moment.rate for moment in moments)
        total = torch.zeros(pool.n, len(pool.study.target_ids))
        for number, moment in enumerate(moments):
            network.load(moment.checkpoint)
            if number == 0:
                check(network, network.loss)
            projection = Projection(self.projection, seed)
            optimizer = network.trainer.recipe.optimizer
            shape = (optimizer.betas, moment.moments) if isinstance(optimizer, Adam) else None
            targets = torch.cat([rows for _, rows in _features(network, network.targets, projection, None)])
            for part, rows in _features(network, network.train, projection, shape):
                total[part] += moment.rate / whole * (rows @ targets.T).cpu()
        return total


def warm_up(pool: Pool, share: float, epochs: int, seed: int = 0, device: str | None = None) -> list[Moment]:
    """Train on a random `share` of the candidates and keep what each epoch ends with."""
    trainer = pool.study.trainer(device)
    if not isinstance(trainer, RecipeTrainer):
        raise InputError(f"LESS follows a training run and needs a study with a Recipe, not {pool.study!r}.")
    recipe = dataclasses.replace(trainer.recipe, epochs=epochs, subset="shorter")
    kept = min(pool.n, max(2, round(share * pool.n)))
    total = recipe.steps(kept)
    if total < epochs:
        raise InputError(
            f"a warm-up on {kept} candidates has no step with batches of {recipe.batch_size} and drop_last; "
            "enlarge share."
        )
    weights = torch.ones(pool.n)
    if kept < pool.n:
        weights = torch.as_tensor(Subsets.uniform(pool.n, kept / pool.n, seed).mask(0), dtype=torch.float32)
    each = total // epochs
    found: list[Moment] = []

    def keep(done: int, state: State) -> None:
        if done % each == 0:
            rates = [recipe.schedule.factor(t, total) for t in range(done - each, done)]
            tensors = {k: v.clone() for k, v in {**state.parameters, **state.buffers}.items()}
            name = f"epoch {done // each}"
            moments = {name: {k: v.clone() for k, v in one.items()} for name, one in state.moments.items()}
            rate = recipe.optimizer.lr * float(np.mean(rates))
            found.append(Moment(Checkpoint(name, lambda: tensors), moments, rate))

    train_one(Step(trainer.model, recipe, trainer.mixed), trainer.data, weights, seed, watch=keep)
    return found


def _features(
    network: Network, data: OnDemand | Resident, projection: Projection,
    shape: tuple[tuple[float, float], dict[str, Tensors]] | None,
) -> Iterator[tuple[slice, torch.Tensor]]:  # fmt: skip
    """Unit rows (b, size) of projected gradients, in the shape of Adam's updates where its state is given."""
    parameters = sum(value.numel() for value in network.parameters.values())
    for part, x, y in network.batches(data, max(1, min(256, _VALUES // parameters))):
        pieces = gradients(network, x, y, network.loss)
        rows = projection([_formed(piece, shape) for piece in pieces])
        network.require_finite(data, part.start, rows)
        yield part, torch.nn.functional.normalize(rows, dim=1)


def _formed(piece: Piece, shape: tuple[tuple[float, float], dict[str, Tensors]] | None) -> Flat:
    """The piece formed: factors would be projected from both sides, which an update has not."""
    found = piece.parameters()
    if shape is not None:
        (beta1, beta2), moments = shape
        for key, g in found.items():
            mean = beta1 * moments["mean"][key] + (1 - beta1) * g
            square = beta2 * moments["square"][key] + (1 - beta2) * g.square()
            found[key] = mean / (square + _EPS).sqrt()
    joined = torch.cat([g.flatten(1) for g in found.values()], 1)
    return Flat(piece.name, joined, tuple(found), tuple(g.shape[1:] for g in found.values()))
