"""Ridge regression and least squares for all targets, from one eigendecomposition they share.

Per target, with G = cov(S), q = cov(S, y) and an unpenalised bias:  min 1/2m ||y - b - S w||^2 + l/2 ||w||^2,
solved by w = (G + l)^-1 q. With G = V diag(e) V^T, e > 0, every penalty of every target is w = V diag(1/(e +
l)) V^T q. V comes from the n x n matrix or, with fewer retrainings than examples, from the m x m one (the
dual)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from whence.errors import InputError
from whence.methods.regression.fit import Fit, numpy64
from whence.methods.regression.moments import check_rows


@dataclass(frozen=True)
class Spectrum:
    """A centred design of m rows, S - mean = sqrt(m) U diag(sqrt(e)) V^T, and its targets: coords c = V^T q,
    (r, t)."""

    values: torch.Tensor  # e (r,)
    vectors: torch.Tensor  # V (n, r)
    coords: torch.Tensor  # V^T q (r, t)
    left: torch.Tensor | None  # U (m, r), only where asked for
    mask_mean: torch.Tensor
    output_mean: torch.Tensor
    centred: torch.Tensor  # y - mean(y) (m, t)
    rows: int

    @classmethod
    def of(
        cls, masks: np.ndarray, outputs: np.ndarray, device: torch.device | str, left: bool = False
    ) -> Spectrum:
        s = torch.as_tensor(masks, device=device).double()
        y = torch.as_tensor(outputs, device=device).double()
        mask_mean, output_mean = s.mean(0), y.mean(0)
        s -= mask_mean
        y = y - output_mean
        m, n = s.shape
        values, vectors = torch.linalg.eigh((s.T @ s if m > n else s @ s.T) / m)
        kept = values > values[-1].clamp(min=1e-300) * max(m, n) * 1e-14
        values, vectors = values[kept], vectors[:, kept]
        other = (s if m > n else s.T) @ vectors / (m * values).sqrt()
        u, v = (other, vectors) if m > n else (vectors, other)
        coords = values.sqrt()[:, None] * (u.T @ y) / m**0.5
        return cls(values, v, coords, u if left else None, mask_mean, output_mean, y, m)

    def weight(self, penalty: torch.Tensor) -> torch.Tensor:
        """(t, n) at penalties (t,)."""
        return (self.vectors @ (self.coords / (self.values[:, None] + penalty))).T

    def residual_square(self, penalty: torch.Tensor) -> torch.Tensor:
        """(t,) sum of squared residuals: what the design cannot reach, plus what the penalty withholds."""
        total = self.centred.square().sum(0)
        reached = self.coords.square() / self.values[:, None] * self.rows
        shrunk = (penalty / (self.values[:, None] + penalty)).square()
        return (total - reached.sum(0)).clamp(min=0) + (reached * shrunk).sum(0)

    def standard_error(self, penalty: torch.Tensor) -> torch.Tensor:
        """(t, n): Cov(w) = sigma^2/m V diag(e / (e + l)^2) V^T, residuals of equal variance, the penalty held
        fixed."""
        share = self.values[:, None] / (self.values[:, None] + penalty)
        freedom = self.rows - 1 - (2 * share - share.square()).sum(0)
        noise = self.residual_square(penalty) / freedom.clamp(min=1)
        spread = share.square() / self.values[:, None]
        return (self.vectors.square() @ spread * (noise / self.rows)).sqrt().T


def ridge(
    masks: np.ndarray,
    outputs: np.ndarray,
    validation_masks: np.ndarray | None = None,
    validation_outputs: np.ndarray | None = None,
    *,
    penalty: float | np.ndarray | None = None,
    choose: Literal["validation", "loo", "gcv"] | None = None,
    penalties: int = 40,
    refit: bool = True,
    device: torch.device | str = "cpu",
) -> Fit:
    """Ridge surrogates; masks (m, n) bool, outputs (m, t), m < n or m > n.

    The penalty of each target minimises the error on the validation rows or, without them, the closed-form
    leave-one-out error ("loo", exact; "gcv", its rotation-invariant form) over `penalties` values. The refit
    on train and validation scales the penalty by rows, since noise/signal fixes l times rows. Standard
    errors: equal residual variance, at fixed penalty; they measure the spread of the estimate, not the bias
    that shrinkage adds."""
    masks, outputs = check_rows(masks, outputs)
    have = validation_masks is not None and validation_outputs is not None
    choose = choose or ("validation" if have else "loo")
    if choose == "validation" and not have and penalty is None:
        raise InputError('validation_masks and validation_outputs are missing: pass them, or choose="loo".')
    spectrum = Spectrum.of(masks, outputs, device, left=choose == "loo" and penalty is None)
    diagnostics: dict[str, np.ndarray] = {}
    if len(spectrum.values) == 0:
        raise InputError(
            "masks are the same in every row, so no example's effect can be told from another's."
        )
    if penalty is not None:
        chosen = torch.as_tensor(
            np.broadcast_to(np.asarray(penalty, np.float64), outputs.shape[1:]).copy()
        ).to(device)
    else:
        grid = spectrum.values.mean() * torch.logspace(-4, 4, penalties, dtype=torch.float64, device=device)
        if choose == "validation":
            assert validation_masks is not None and validation_outputs is not None
            v_masks, v_outputs = check_rows(validation_masks, validation_outputs, what="validation", least=1)
            errors = _validation_errors(spectrum, v_masks, v_outputs, grid)
        else:
            errors = loo_errors(spectrum, grid) if choose == "loo" else _gcv_errors(spectrum, grid)
        smallest, at = errors.min(0)
        chosen = grid[at]
        diagnostics["validation_error"] = numpy64(smallest)
        if choose == "validation" and refit:
            chosen = chosen * len(masks) / (len(masks) + len(v_masks))
            spectrum = Spectrum.of(
                np.concatenate([masks, v_masks]), np.concatenate([outputs, v_outputs]), device
            )
    return _finish(spectrum, chosen, diagnostics)


def ols(masks: np.ndarray, outputs: np.ndarray, *, device: torch.device | str = "cpu") -> Fit:
    """Least squares; needs m >= n + 2. Standard errors assume residuals of equal variance.

    Fixed-size designs determine weights up to a constant shared by all examples (each row keeps as many); the
    solution of least norm is returned, which predicts the same.
    """
    masks, outputs = check_rows(masks, outputs)
    m, n = masks.shape
    if m < n + 2:
        raise InputError(
            f"masks has {m} retrainings, but least squares on {n} examples needs {n + 2} or more."
        )
    spectrum = Spectrum.of(masks, outputs, device)
    return _finish(spectrum, torch.zeros_like(spectrum.output_mean), {})


def _finish(spectrum: Spectrum, penalty: torch.Tensor, diagnostics: dict[str, np.ndarray]) -> Fit:
    weight = spectrum.weight(penalty)
    bias = spectrum.output_mean - weight @ spectrum.mask_mean
    share = spectrum.values[:, None] / (spectrum.values[:, None] + penalty)
    diagnostics |= {
        "penalty": numpy64(penalty),
        # over n, this is the share of a weight that the penalty leaves on average
        "degrees_of_freedom": numpy64(share.sum(0)),
        "nonzeros": numpy64(torch.count_nonzero(weight, dim=1)).astype(np.int64),
    }
    return Fit(numpy64(weight), numpy64(bias), numpy64(spectrum.standard_error(penalty)), diagnostics)


def _validation_errors(
    s: Spectrum, masks: np.ndarray, outputs: np.ndarray, grid: torch.Tensor
) -> torch.Tensor:
    """(penalties, t) mean squared error on validation rows."""
    device = s.values.device
    rotated = ((torch.as_tensor(masks, device=device).double() - s.mask_mean) @ s.vectors).float()
    y = (torch.as_tensor(outputs, device=device).double() - s.output_mean).float()
    coords = s.coords.float()
    shrink = (1 / (s.values[:, None] + grid)).float()
    return torch.stack(
        [(rotated @ (coords * shrink[:, k, None]) - y).square().mean(0) for k in range(len(grid))]
    )


def loo_errors(s: Spectrum, grid: torch.Tensor) -> torch.Tensor:
    """(penalties, t) mean of (residual_i / (1 - H_ii))^2, H = 1/m + U diag(e/(e+l)) U^T: leave-one-out
    without refits."""
    assert s.left is not None
    rotated = s.left.T @ s.centred
    squares = s.left.square()
    errors = []
    for penalty in grid:
        share = s.values / (s.values + penalty)
        residual = s.centred - s.left @ (share[:, None] * rotated)
        leverage = 1 / s.rows + squares @ share
        errors.append((residual / (1 - leverage).clamp(min=1e-12)[:, None]).square().mean(0))
    return torch.stack(errors)


def _gcv_errors(s: Spectrum, grid: torch.Tensor) -> torch.Tensor:
    """(penalties, t) Golub, Heath and Wahba 1979: leave-one-out with the mean leverage in place of each
    row's."""
    errors = []
    for penalty in grid:
        freedom = 1 + (s.values / (s.values + penalty)).sum()
        errors.append(s.residual_square(penalty) / s.rows / (1 - freedom / s.rows).clamp(min=1e-12).square())
    return torch.stack(errors)
