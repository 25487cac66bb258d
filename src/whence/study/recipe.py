"""How a model is trained, as plain data: `Recipe`, the optimizers, the schedules and the augmentation.

Nothing here trains; `whence.training` does. Everything is frozen and can be described in JSON, so that a
recipe is part of the fingerprint of the study that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from whence.errors import InputError
from whence.study._describe import describe_callable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: ``buffer = momentum * buffer + g + weight_decay * w``; ``w -= lr *
    buffer``."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _positive("lr", self.lr)
        _not_negative("weight_decay", self.weight_decay)
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), received {self.momentum}.")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov=True needs a momentum above 0, received momentum=0.")


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) with L2 weight decay; `eps_root` sits inside the square root, which keeps the
    update differentiable at zero gradients (needed by metagradients, Engstrom et al. 2025)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _positive("lr", self.lr)
        _not_negative("weight_decay", self.weight_decay)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must lie in [0, 1), received {self.betas}.")


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): ``w -= lr * weight_decay * w``."""

    weight_decay: float = 0.01


@dataclass(frozen=True)
class Constant:
    """The learning rate stays at its peak."""

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at `step` of `total` (0-based)."""
        return 1.0


@dataclass(frozen=True)
class Triangle:
    """One cycle: linear from `start` to 1 over the first `peak` share of the run, then linear to `end`."""

    peak: float = 0.2
    start: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.peak <= 1:
            raise InputError(f"peak must be a share of the run, 0 to 1, received {self.peak}.")

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at `step` of `total` (0-based), read at the middle of the step."""
        u = (step + 0.5) / total
        if u < self.peak:
            return self.start + (1.0 - self.start) * u / self.peak
        return 1.0 + (self.end - 1.0) * (u - self.peak) / (1.0 - self.peak)


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over the first `warmup` share of the run, then half a cosine from 1 down to `floor`."""

    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup must be a share of the run, 0 to 1, received {self.warmup}.")

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at `step` of `total` (0-based), read at the middle of the step."""
        u = (step + 0.5) / total
        if u < self.warmup:
            return u / self.warmup
        v = (u - self.warmup) / (1.0 - self.warmup)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * v))


@dataclass(frozen=True)
class Erase:
    """Blank one fixed rectangle of a training image, with `probability` in each epoch: a recipe that learns
    little of what stands there, such as a stamp or a logo.

    Parameters
    ----------
    row, column : the upper left pixel. height, width : in pixels.
    """

    row: int
    column: int
    height: int
    width: int
    probability: float = 1.0

    def __post_init__(self) -> None:
        if min(self.row, self.column) < 0 or min(self.height, self.width) < 1:
            raise InputError(
                f"a rectangle to erase starts at 0 or later and has at least one pixel, received row="
                f"{self.row}, column={self.column}, height={self.height} and width={self.width}."
            )
        if not 0 < self.probability <= 1:
            raise InputError(f"probability must lie in (0, 1], received {self.probability}.")


@dataclass(frozen=True)
class Stairs:
    """The learning rate is multiplied by `ratio` after each of `count` equally long parts of the run, epochs
    for example."""

    ratio: float
    count: int

    def __post_init__(self) -> None:
        _positive("ratio", self.ratio)
        if self.count < 1:
            raise InputError(f"count must be at least 1 part of the run, received {self.count}.")

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at `step` of `total` (0-based)."""
        return self.ratio ** (step * self.count // total)


@dataclass(frozen=True)
class Augment:
    """Random changes to training images, drawn afresh each epoch: blank the rectangle of `erase`, mirror,
    shift by up to `translate` pixels (the edge is reflected), blank a square of side `cutout`. Targets stay
    as they are."""

    flip: bool = False
    translate: int = 0
    cutout: int = 0
    erase: Erase | None = None

    def __post_init__(self) -> None:
        if self.translate < 0 or self.cutout < 0:
            raise InputError(
                f"translate={self.translate} and cutout={self.cutout} must be at least 0 pixels."
            )
        if not isinstance(self.erase, Erase | None):
            raise InputError(f"erase must be an Erase or None, received {self.erase!r}.")


@dataclass(frozen=True)
class Recipe:
    """How to train one model on a subset.

    Parameters
    ----------
    model : function without arguments that makes a freshly initialised classifier, inputs to logits ``(b,
        classes)``. Its random initial weights are governed by the training seed.
    epochs, batch_size : as usual; a batch is `batch_size` examples of the subset.
    optimizer : `SGD`, `Adam` or `AdamW`.
    schedule : `Triangle`, `Cosine`, `Stairs` or `Constant`.
    label_smoothing : share of the target probability spread over all classes.
    augment : `Augment` for images, or None.
    subset : ``"shorter"``: a run on a subset takes fewer steps (Ilyas et al. 2022); ``"weighted"``: it keeps
        the steps and batches of the full run and gives the left-out examples weight 0, the loss still divided
        by the size of the batch (Ilyas and Engstrom 2025).
    drop_last : skip an epoch's last, incomplete batch.
    precision : ``"float32"``; ``"mixed"`` runs the network in bfloat16 with float32 weights; ``"auto"`` takes
        mixed where the device has bfloat16 arithmetic. Outputs are always computed in float32.
    loss : None: cross-entropy over classes. Otherwise a function ``loss(outputs, answers) -> (b,)`` of what
        the network returns ``(b, ...)`` and of the study's answers ``(b, ...)``, which stand in the place of
        labels; `torch.func` maps it, so it may neither write in place nor branch on values. The study then
        records the output "loss", this function of the targets. For language models see
        `whence.study.text`, for policies `whence.study.robots`.
    """

    model: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    optimizer: SGD | Adam | AdamW
    schedule: Constant | Triangle | Cosine | Stairs = Triangle()
    label_smoothing: float = 0.0
    augment: Augment | None = None
    subset: str = "shorter"
    drop_last: bool = False
    precision: str = "float32"
    loss: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if not callable(self.model):
            raise InputError(
                f"model must be a function that makes a network, received {type(self.model).__name__}; "
                "pass the class or `lambda: Net(...)`."
            )
        if hasattr(self.model, "named_parameters") and not isinstance(self.model, type):
            raise InputError(
                "model is one finished network, but every retraining needs fresh initial weights; pass a "
                "function that makes the network, for example `lambda: Net(...)`."
            )
        if any(value != int(value) or value < 1 for value in (self.epochs, self.batch_size)):
            raise InputError(
                f"epochs={self.epochs} and batch_size={self.batch_size} must be whole numbers, at least 1."
            )
        for name, kinds in _KINDS.items():
            if not isinstance(getattr(self, name), kinds):
                raise InputError(
                    f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, received "
                    f"{getattr(self, name)!r}."
                )
        if self.loss is not None and not callable(self.loss):
            raise InputError(
                f"loss must be a function of outputs and answers, received {type(self.loss).__name__}."
            )
        if self.loss is not None and self.label_smoothing:
            raise InputError(
                f"label_smoothing={self.label_smoothing} is for cross-entropy over classes; leave it at 0 "
                "with a loss of your own."
            )
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), received {self.label_smoothing}.")
        if self.subset not in ("shorter", "weighted"):
            raise InputError(f'subset must be "shorter" or "weighted", received {self.subset!r}.')
        if self.precision not in ("float32", "mixed", "auto"):
            raise InputError(f'precision must be "float32", "mixed" or "auto", received {self.precision!r}.')

    def steps(self, kept: int) -> int:
        """Optimiser steps of a run on `kept` examples (for ``subset="weighted"`` pass the full size)."""
        per_epoch = kept // self.batch_size if self.drop_last else math.ceil(kept / self.batch_size)
        return self.epochs * per_epoch

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, part of the study's fingerprint."""
        plain: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "model":
                plain["model"] = describe_callable(value)
            elif item.name == "loss":
                if value is not None:  # banks older than the option keep their fingerprint
                    plain["loss"] = describe_callable(value)
            elif hasattr(value, "__dataclass_fields__"):
                plain[item.name] = {"kind": type(value).__name__, **asdict(value)}
                if plain[item.name].get("erase", "") is None:
                    del plain[item.name]["erase"]  # banks older than the option keep their fingerprint
            else:
                plain[item.name] = value
        return plain


_KINDS: dict[str, tuple[type, ...]] = {
    "optimizer": (SGD, Adam, AdamW),
    "schedule": (Constant, Triangle, Cosine, Stairs),
    "augment": (Augment, type(None)),
}


def _not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise InputError(f"{name} must be at least 0, received {value}.")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} must be above 0, received {value}.")
