"""Network: what gradient methods differentiate, a study's network in evaluation mode at given weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from whence.errors import InputError
from whence.methods.gradients.checkpoints import Checkpoint, check_fits
from whence.methods.gradients.pieces import Tensors, wide
from whence.study.outputs import margin, output_functions
from whence.training import RecipeTrainer
from whence.training.data import OnDemand, Resident
from whence.training.reproducible import reproducible

if TYPE_CHECKING:
    from whence.methods.gradients.layers import Layout
    from whence.study import Study


class Network:
    """A study's network, its examples on the device, its loss and its output.

    Attributes
    ----------
    module : the network in evaluation mode; its own weights are those of the last `load`
    parameters, buffers : the same by name; frozen parameters count as buffers
    train, targets : the examples, ready for the network; training examples are prepared as they are asked for
    layout : how its parameters are reached, found with the first gradients
    """

    def __init__(self, study: Study, output: str, device: str | None = None) -> None:
        trainer = study.trainer(device)
        if not isinstance(trainer, RecipeTrainer):
            raise InputError(
                f"gradients need a study with a Recipe, received {study!r}; make one with "
                "Study(..., recipe=Recipe(model=make_network))."
            )
        functions = output_functions(trainer.recipe.loss)
        if output not in functions or output == "logits":
            raise InputError(f"gradients are taken of one number per target, not of {output!r}.")
        self.trainer = trainer
        self.output_name, self._output = output, functions[output]
        self._own_loss = trainer.recipe.loss
        self.own_loss = self._own_loss is not None
        # What TRAK linearises: the margin of a classifier, and the loss itself where that is all there is.
        self.linear_name = "margin" if self._own_loss is None else "loss"
        self.module: nn.Module = trainer.model
        self.device = trainer.device
        self.train = OnDemand(study.train, study.train, trainer.device, trainer.dtype)
        self.targets = trainer.queries
        self.smoothing = trainer.recipe.label_smoothing
        self.parameters: Tensors = {}
        self.buffers: Tensors = {}
        self.layout: Layout | None = None

    def load(self, checkpoint: Checkpoint) -> Network:
        """Take the weights of a checkpoint; InputError if it is another network's or not finite."""
        state = checkpoint.load()
        check_fits(self.trainer, checkpoint, state)
        with torch.no_grad():
            for key, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
                if key in state:  # a buffer that is not saved has its value from the start
                    tensor.copy_(state[key])
        self.module.eval()
        named = dict(self.module.named_parameters())
        self.parameters = {k: v.detach() for k, v in named.items() if v.requires_grad}
        frozen = {k: v.detach() for k, v in named.items() if not v.requires_grad}
        self.buffers = {**frozen, **{k: v.detach() for k, v in self.module.named_buffers()}}
        return self

    def logits(self, parameters: Tensors, x: torch.Tensor) -> torch.Tensor:
        """(b, classes) as a pure function of `parameters`; float32 where the network is in half precision."""
        with reproducible(self.device):
            return wide(torch.func.functional_call(self.module, {**self.buffers, **parameters}, (x,)))

    def output(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The output that is explained, (b,) of logits (b, classes)."""
        return self._output(logits, y)

    def linear(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The output f of a training example that is taken to be linear in the weights, (b,) of logits (b,
        classes): see `linear_name`."""
        return margin(logits, y) if self._own_loss is None else self._own_loss(logits, y)

    def pull(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """-d loss / d f of training examples, float64 (b,): 1 - p for the margin, -1 for the loss itself."""
        if self._own_loss is not None:
            return -torch.ones(len(y), dtype=torch.float64, device=logits.device)
        return 1 - torch.softmax(logits.double(), 1).gather(1, y[:, None])[:, 0]

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss that was trained on, (b,) of logits (b, classes), label smoothing included."""
        if self._own_loss is not None:
            return self._own_loss(logits, y)
        return nn.functional.cross_entropy(logits, y, reduction="none", label_smoothing=self.smoothing)

    def require_finite(self, data: OnDemand | Resident, start: int, rows: torch.Tensor) -> None:
        """InputError that names the first of the examples from `start` on whose gradient is not finite;
        `rows` (b, ...) are made of their gradients."""
        bad = (~torch.isfinite(rows).flatten(1).all(1)).nonzero()
        if len(bad):
            which = "training example" if data is self.train else "target"
            raise InputError(
                f"the gradient of {which} {start + int(bad[0, 0])} is not finite; leave it out, or look at "
                "its input and at the checkpoint."
            )

    def batches(
        self, data: OnDemand | Resident, size: int
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Positions, inputs and labels of `data`, `size` examples at a time, in order."""
        for start in range(0, len(data.y), size):
            part = slice(start, min(start + size, len(data.y)))
            yield part, data.inputs(part), data.y[part]
