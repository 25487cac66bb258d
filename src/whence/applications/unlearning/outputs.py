"""What is compared: outputs of unlearned models and of oracles at forget, retain and validation points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whence.errors import InputError
from whence.study.outputs import margin as margin_of

PARTS = ("forget", "retain", "validation")


@dataclass(frozen=True)
class Outputs:
    """Outputs of several models at the same points.

    Attributes
    ----------
    margin : (models, points) ``log(p / (1 - p))`` of the true label.
    correct : (models, points) whether the prediction was right.
    """

    margin: np.ndarray
    correct: np.ndarray

    def __post_init__(self) -> None:
        if np.shape(self.margin) != np.shape(self.correct) or np.ndim(self.margin) != 2:
            raise InputError(
                f"margin and correct have shapes {np.shape(self.margin)} and {np.shape(self.correct)}, but "
                "both must be (models, points)."
            )

    @classmethod
    def of(cls, logits: Any, labels: Any) -> Outputs:
        """From logits (models, points, classes) and true labels (points,)."""
        values = torch.as_tensor(logits).detach().cpu()
        values = values if values.dtype in (torch.float32, torch.float64) else values.float()
        true = torch.as_tensor(np.asarray(labels, np.int64))
        if values.ndim != 3 or true.shape != values.shape[1:2]:
            raise InputError(
                f"logits has shape {tuple(values.shape)} and labels {tuple(true.shape)}, but they must be "
                "(models, points, classes) and (points,)."
            )
        if len(true) and not 0 <= int(true.min()) <= int(true.max()) < values.shape[2]:
            raise InputError(
                f"labels run from {int(true.min())} to {int(true.max())}, but there are {values.shape[2]} "
                "classes."
            )
        return cls(margin_of(values, true).numpy(), (values.argmax(-1) == true).numpy())

    @property
    def accuracy(self) -> float:
        """Share of right predictions over models and points."""
        return float(np.mean(self.correct))


@dataclass(frozen=True)
class Part:
    """The models compared at one kind of points: forget, retain or validation.

    Attributes
    ----------
    unlearned, oracles : models that have unlearned, and models retrained without the forget set.
    oracles_again : as many oracles with other seeds, for a floor of full size.
    before : models before unlearning, trained on everything.
    ids : (points,) target ids of the points in the study that `Certificate.verify` is to retrain.
    """

    unlearned: Outputs
    oracles: Outputs
    oracles_again: Outputs | None = None
    before: Outputs | None = None
    ids: Sequence[Any] | np.ndarray | None = None

    def __post_init__(self) -> None:
        points = self.points
        sides = {"unlearned": self.unlearned, "oracles_again": self.oracles_again, "before": self.before}
        lengths = {name: np.shape(side.margin)[1] for name, side in sides.items() if side is not None}
        if self.ids is not None:
            lengths["ids"] = len(self.ids)
        for name, length in lengths.items():
            if length != points:
                raise InputError(
                    f"{name} has {length} points and oracles {points}; pass the same points in the same "
                    "order."
                )

    @property
    def points(self) -> int:
        """How many points there are."""
        return int(np.shape(self.oracles.margin)[1])

    @property
    def again(self) -> np.ndarray | None:
        """Margins of `oracles_again`."""
        return None if self.oracles_again is None else self.oracles_again.margin


def check_parts(parts: Mapping[str, Part], forgotten: Sequence[Any]) -> None:
    """All three kinds of points, and at the forget points nothing that was not forgotten."""
    if set(parts) != set(PARTS):
        raise InputError(f"parts has {', '.join(map(repr, parts))}, but it must have {', '.join(PARTS)}.")
    points = parts["forget"].points
    if points > len(forgotten):
        raise InputError(
            f"the forget part has {points} points, but only {len(forgotten)} examples are forgotten; pass "
            "outputs at the forgotten examples."
        )
