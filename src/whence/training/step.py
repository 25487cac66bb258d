"""The one training step of the house: ``step(state, batch, example_weights) -> state``, pure and
deterministic.

Training one model (`loop`), training hundreds stacked (`stacked`) and differentiating through a run are
drivers over this function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from whence.study.recipe import Recipe
from whence.training.batchnorm import example_weights
from whence.training.layout import channels_last_gradients, flattening, pooling_first
from whence.training.optimizers import Rate, Tensors, initial_moments, update

# Logits (b, classes) and what the examples are held against (b, ...), to losses (b,).
Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class State(NamedTuple):
    """Everything a run carries from step to step (with a leading model axis when stacked)."""

    parameters: Tensors
    buffers: Tensors
    moments: dict[str, Tensors]
    t: torch.Tensor


class Batch(NamedTuple):
    """Inputs ``(b, ...)``, labels ``(b,)`` (what the loss wants, where it is another than cross-entropy) and
    the learning rate, a number or a tensor ``()``."""

    x: torch.Tensor
    y: torch.Tensor
    lr: Rate


def initial_state(model: nn.Module, recipe: Recipe, device: torch.device | str = "cpu") -> State:
    """The state before the first step, from a freshly made network; frozen parameters count as buffers."""
    named = (*model.named_parameters(), *model.named_buffers())
    tensors = {key: value.detach().to(device) for key, value in named}
    trained = {key for key, value in named if value.requires_grad}
    parameters = {key: value for key, value in tensors.items() if key in trained}
    buffers = {key: value for key, value in tensors.items() if key not in trained}
    return State(
        parameters, buffers, initial_moments(recipe.optimizer, parameters), torch.zeros((), device=device)
    )


class Step:
    """One optimiser step of `recipe` for networks shaped like `model`.

    Parameters
    ----------
    model : gives the architecture; its own weights are not used.
    mixed : run the network in bfloat16 with float32 weights and gradients.
    transformed : take gradients by `torch.func`, so that the step can be mapped; without it plain autograd
        does the same a fifth faster (measured on small conv nets).
    graph : keep the graph of the gradient, so that autograd can go back through the step.
    objective : the loss of each example, in place of the recipe's.
    training : False runs the network in evaluation mode: batch norm keeps its statistics and depends on no
        other example, dropout is off. For training given models further.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        mixed: bool = False,
        transformed: bool = False,
        graph: bool = False,
        objective: Objective | None = None,
        training: bool = True,
    ) -> None:
        self.model = pooling_first(model).train(training)
        self.written = {key for key, _ in model.named_buffers()}
        self.recipe = recipe
        self.mixed = mixed
        self.transformed, self.graph = transformed, graph
        self.objective, self.training = objective or recipe.loss, training
        self.flattening = flattening(self.model)
        self.recordings: dict[Any, Any] = {}

    def __call__(self, state: State, batch: Batch, weights: torch.Tensor | None) -> State:
        """The state after training on `batch` with per-example `weights` ``(b,)`` (None: all 1)."""
        gradients, buffers = self._gradients(state, batch, weights)
        t = state.t + 1
        parameters, moments = update(
            self.recipe.optimizer, state.parameters, gradients, state.moments, batch.lr, t
        )
        return State(parameters, buffers, moments, t)

    def _gradients(self, state: State, batch: Batch, weights: torch.Tensor | None) -> tuple[Tensors, Tensors]:
        if self.transformed:
            return torch.func.grad(self.loss, has_aux=True)(state.parameters, state.buffers, batch, weights)
        leaves = {
            key: value if self.graph and value.requires_grad else value.detach().requires_grad_()
            for key, value in state.parameters.items()
        }
        with channels_last_gradients(self.flattening):
            loss, buffers = self.loss(leaves, state.buffers, batch, weights)
            found = torch.autograd.grad(
                loss,
                list(leaves.values()),
                create_graph=self.graph,
                materialize_grads=True,  # zero where unused
            )
        return dict(zip(leaves, found, strict=True)), buffers

    def loss(
        self, parameters: Tensors, buffers: Tensors, batch: Batch, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, Tensors]:
        """Training loss (a scalar) and the buffers after the forward pass."""
        # Batch norm writes its running statistics in place; it is given copies, so that the step stays pure.
        buffers = {key: value.clone() if key in self.written else value for key, value in buffers.items()}
        with (
            torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self.mixed, cache_enabled=False),
            example_weights(weights),
        ):
            logits = torch.func.functional_call(self.model, (parameters, buffers), (batch.x,))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.objective is None:
            each = cross_entropy(logits, batch.y, self.recipe.label_smoothing)
        else:
            each = self.objective(logits, batch.y)
        if weights is None:
            return each.mean(), buffers
        # "weighted" divides by the size of the batch, whatever was left out (Ilyas and Engstrom 2025, section
        # 2); "shorter" has weight 0 only for padding, and divides by what is really there.
        size = float(len(each)) if self.recipe.subset == "weighted" else weights.sum().clamp_min(1e-12)
        return (each * weights).sum() / size, buffers


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy ``(b,)`` of logits ``(b, classes)``, as `torch.nn.functional.cross_entropy` with label
    smoothing.

    Written with examples last: a softmax over few classes is several times faster when the examples are
    contiguous, and the product with the target distribution avoids a scatter in the backward pass.
    """
    log_probability = torch.log_softmax(logits.T.contiguous(), dim=0)
    classes = torch.arange(len(log_probability), device=labels.device)[:, None]
    target = (labels == classes).to(logits.dtype)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / len(log_probability)
    return -(target * log_probability).sum(0)
