"""What every linear solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Fit:
    """Linear surrogates of t targets: outputs ~ masks @ weight.T + bias, in 0/1 units of the masks.

    weight (t, n), bias (t,), standard_error (t, n) or None: float64
    diagnostics : name -> (t,), of penalty, nonzeros, validation_error, gap as the solver has them
    """

    weight: np.ndarray
    bias: np.ndarray
    standard_error: np.ndarray | None = None
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)

    def predict(self, masks: np.ndarray) -> np.ndarray:
        """(m, n) masks -> (m, t) outputs."""
        return masks.astype(np.float64) @ self.weight.T + self.bias


def numpy64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
