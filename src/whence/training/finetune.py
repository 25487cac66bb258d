"""Given models of a study, many at once: trained further on chosen examples, with losses and answers of their
own, and evaluated.

The stacked driver over the one step function does the training; here is what surrounds it. The network runs
in evaluation mode throughout: batch-norm statistics stay those of the given models (a batch that is mostly
one class would move them), and dropout is off.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from whence.errors import InputError
from whence.study._random import fork
from whence.study.recipe import SGD, Adam, Constant, Cosine, Recipe, Stairs, Triangle
from whence.training.convolution import stacking
from whence.training.data import Resident, Selected
from whence.training.optimizers import Tensors, initial_moments
from whence.training.reproducible import reproducible
from whence.training.stacked import stacked, train_stack
from whence.training.step import Objective, State, Step, cross_entropy
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study.study import Study

CONSTANT = Constant()
_FED = 4_000_000  # numbers fed to the stack at once
_GRADIENTS = 32_000_000  # numbers in per-example gradients held at once


class Finetuner:
    """Trains given models of `study` further, and evaluates them.

    Parameters
    ----------
    dtype : of the weights of the models, float32 or float64.

    Raises
    ------
    InputError : a study without a Recipe, whose way of training is not known to the engine.
    """

    def __init__(self, study: Study, device: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        if study.recipe is None:
            raise InputError(
                f"models are trained further by the engine, so the study needs a Recipe, received {study!r}."
            )
        self.study = copy.copy(study)
        self.recipe = self.study.recipe = replace(study.recipe, precision="float32")
        trainer = RecipeTrainer(self.study, device)
        self.device, self.dtype = trainer.device, dtype
        self.network = copy.deepcopy(trainer.model).to(dtype).eval()
        self.data = Resident(study.train, study.train, self.device, dtype)
        self.targets = Resident(study.targets, study.train, self.device, dtype)
        self._recordings: dict[tuple[Objective | None, SGD | Adam], dict[Any, Any]] = {}

    def load(self, models: Sequence[Mapping[str, torch.Tensor]]) -> State:
        """A stack of models given by all their parameters and buffers by name."""
        lacking = [
            key
            for key, value in (*self.network.named_parameters(), *self.network.named_buffers())
            for model in models
            if key not in model or model[key].shape != value.shape
        ]
        if lacking or not models:
            raise InputError(
                f"models must hold the weights of the study's network by name, received {len(models)} models"
                + (f" of which one lacks {lacking[0]!r} in the right shape." if lacking else ".")
            )
        return self._cast(stacked(Step(self.network, self.recipe, training=False), models, self.device))

    def _cast(self, state: State) -> State:
        def cast(group: Tensors) -> Tensors:
            return {k: v.to(self.dtype) if v.is_floating_point() else v for k, v in group.items()}

        return State(cast(state.parameters), cast(state.buffers), {}, state.t)

    def unload(self, state: State) -> list[dict[str, torch.Tensor]]:
        """The models of a stack as `load` takes them, on the CPU."""
        whole = {key: value.cpu() for key, value in (state.parameters | state.buffers).items()}
        return [{key: value[i].clone() for key, value in whole.items()} for i in range(len(state.t))]

    def fresh(self, seeds: Sequence[int]) -> State:
        """Untrained models."""
        made = []
        for seed in seeds:
            with fork():
                torch.manual_seed(seed)
                network = self.recipe.model()
            named = (*network.named_parameters(), *network.named_buffers())
            made.append({key: value.detach() for key, value in named})
        return self.load(made)

    def retrain(self, mask: torch.Tensor, seeds: list[int]) -> State:
        """Train from the start on the examples where `mask` ``(n,)`` is True, as the recipe says."""
        step = Step(copy.deepcopy(self.network).float(), self.recipe)
        data = Resident(self.study.train, self.study.train, self.device)
        weights = mask.float().expand(len(seeds), -1).contiguous()
        return self._cast(train_stack(step, data, weights, seeds))

    def teach(
        self,
        state: State,
        points: torch.Tensor,
        answers: torch.Tensor | None,
        objective: Objective | None,
        seeds: list[int],
        *,
        epochs: int,
        batch_size: int,
        optimizer: SGD | Adam,
        schedule: Constant | Triangle | Cosine | Stairs = CONSTANT,
    ) -> State:
        """The stack after training on `points`, shuffled anew in each epoch.

        The optimizer's moments go on from those in `state`, where these are of the same kind.

        Parameters
        ----------
        points : positions of training examples ``(m, k)``, repeats allowed.
        answers : what `objective` holds them against, ``(m, k, ...)``; None for their labels.
        objective : the loss of each example, None for cross-entropy.
        seeds : of the orders, one for each model.
        """
        recipe = replace(
            self.recipe,
            epochs=epochs,
            batch_size=min(batch_size, points.shape[1]),
            optimizer=optimizer,
            schedule=schedule,
            label_smoothing=0.0,
            augment=None,
            subset="shorter",
            drop_last=False,
        )
        names = set(initial_moments(optimizer, {}))
        if set(state.moments) != names:
            moments = initial_moments(optimizer, state.parameters)
            state = State(state.parameters, state.buffers, moments, torch.zeros_like(state.t))
        chosen = Selected(self.data, points, answers)
        step = self._step(objective, recipe)
        return train_stack(step, chosen, torch.ones(points.shape), seeds, given=state)

    def _step(self, objective: Objective | None, recipe: Recipe) -> Step:
        step = Step(self.network, recipe, objective=objective, training=False)
        # the rate is an argument of a recording; all else that it depends on is here
        step.recordings = self._recordings.setdefault((objective, replace(recipe.optimizer, lr=1.0)), {})
        return step

    def logits(self, state: State, points: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``(m, k, classes)`` at training examples `points` ``(m, k)``, or at all targets of the
        study."""
        call = torch.func.vmap(
            lambda p, b, x: torch.func.functional_call(self.network, (p, b), (x,)),
            in_dims=(0, 0, None if points is None else 0),
        )
        data = self.targets if points is None else self.data
        count = len(data.y) if points is None else points.shape[1]
        size = max(1, min(512, _FED // (max(1, data.x[0].numel()) * len(state.t))))
        found = []
        with torch.no_grad(), stacking(self.device), reproducible(self.device):
            for start in range(0, count, size):
                part = slice(start, start + size)
                x = data.inputs(part if points is None else points[:, part].to(self.device))
                found.append(call(state.parameters, state.buffers, x))
        return torch.cat(found, dim=1)

    def squared_gradients(self, state: State, points: torch.Tensor) -> Tensors:
        """Mean over training examples `points` ``(k,)`` of the squared gradient of each one's cross-entropy,
        for each model: the diagonal of the empirical Fisher information."""

        def loss(p: Tensors, b: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            logits = torch.func.functional_call(self.network, (p, b), (x[None],))
            return cross_entropy(logits, y[None])[0]

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, None, 0, 0))
        call = torch.func.vmap(each, in_dims=(0, 0, None, None))
        total = {key: torch.zeros_like(value) for key, value in state.parameters.items()}
        size = max(1, _GRADIENTS // sum(value.numel() for value in total.values()))
        with stacking(self.device), reproducible(self.device):
            for part in points.to(self.device).split(size):
                found = call(state.parameters, state.buffers, self.data.inputs(part), self.data.y[part])
                for key, value in found.items():
                    total[key] += value.square().sum(1)
        return {key: value / len(points) for key, value in total.items()}
