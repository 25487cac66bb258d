"""Second moments of masks and outputs: everything the linear solvers need to know about the retrainings.

All targets share one design, the 0/1 masks S (m, n), so the n x n matrix of counts is made once and every
penalty of every target is then solved without touching the m rows again. Counts of 0/1 columns are whole
numbers: they are summed exactly, and centring happens in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from whence.errors import InputError

ROWS = 8192  # rows a product reads at once: 2,000 columns of int8 are 16 MB
EXACT = 1 << 24  # float32 holds every whole number up to here


@dataclass(frozen=True)
class Moments:
    """Centred second moments of m retrainings (targets are rows).

    gram (n, n) float64 : cov(S, S), divided by m
    cross (t, n) float64 : cov(y, S), divided by m
    variance (t,) float64 : var(y), divided by m
    mask_mean (n,), output_mean (t,) float64
    rows : m
    """

    gram: torch.Tensor
    cross: torch.Tensor
    variance: torch.Tensor
    mask_mean: torch.Tensor
    output_mean: torch.Tensor
    rows: int

    def bias(self, weight: torch.Tensor) -> torch.Tensor:
        """(t,) the unpenalised intercept: mean(y) - weight @ mean(s)."""
        return self.output_mean - weight @ self.mask_mean

    def targets(self, rows: slice | torch.Tensor) -> Moments:
        """The same design, some of the targets."""
        return Moments(
            self.gram,
            self.cross[rows],
            self.variance[rows],
            self.mask_mean,
            self.output_mean[rows],
            self.rows,
        )


def check_rows(
    masks: np.ndarray, outputs: np.ndarray, *, what: str = "", least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (m, n) bool and outputs (m, t) float, or one sentence that says what is wrong with them."""
    prefix = f"{what}_" if what else ""
    masks, outputs = np.asarray(masks), np.asarray(outputs)
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if masks.ndim != 2 or outputs.ndim != 2 or len(masks) != len(outputs):
        raise InputError(
            f"{prefix}masks {masks.shape} and {prefix}outputs {outputs.shape} do not fit together; "
            f"pass (m, n) and (m, targets)."
        )
    if masks.dtype != bool:
        if not np.isin(masks, (0, 1)).all():
            raise InputError(
                f"{prefix}masks holds values other than 0 and 1; pass one bool a training example."
            )
        masks = masks.astype(bool)
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs)).any(1).sum())
        raise InputError(
            f"{prefix}outputs has non-finite values in {bad} of {len(outputs)} rows; leave those rows out."
        )
    if len(masks) < least:
        raise InputError(f"{prefix}masks has {len(masks)} retrainings, but at least {least} are needed.")
    return masks, outputs


def moments(masks: np.ndarray, outputs: np.ndarray, *, device: torch.device | str = "cpu") -> Moments:
    """Stream m retrainings once: masks (m, n) bool, outputs (m, t) -> `Moments` on `device`.

    Memory: n*n*8 bytes for the result and as much while it is made; `ROWS` rows of masks at a time.
    """
    m, n = masks.shape
    counts = torch.zeros(n, n, dtype=torch.float64, device=device)
    # Outputs are centred before the products, so that a large mean costs no digits.
    output_mean = torch.as_tensor(outputs.mean(0, dtype=np.float64), device=device)
    cross = torch.zeros(outputs.shape[1], n, dtype=torch.float64, device=device)
    variance = torch.zeros_like(output_mean)
    for start in range(0, m, ROWS):
        s = torch.as_tensor(np.ascontiguousarray(masks[start : start + ROWS]), device=device)
        y = torch.as_tensor(outputs[start : start + ROWS], dtype=torch.float64, device=device) - output_mean
        counts += _counts(s)
        # float32 products of at most a thousand rows, summed in float64: right to 1e-7 standard deviations of
        # y.
        for y_part, s_part in zip(y.float().split(1024), s.float().split(1024)):
            cross += y_part.T @ s_part
        variance += y.square().sum(0)
    mask_mean = counts.diagonal() / m
    gram = counts.div_(m).addr_(mask_mean, mask_mean, alpha=-1)
    # An output that is the same in all rows has no variance but what rounding of its mean leaves.
    cross[variance / m <= (1e-12 * output_mean).square()] = 0
    return Moments(gram, cross / m, variance / m, mask_mean, output_mean, m)  # y is centred: s need not be


def pooled(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of retrainings together (Chan, Golub and LeVeque 1979), without their rows."""
    m = a.rows + b.rows
    p, q = a.rows / m, b.rows / m
    ds, dy = a.mask_mean - b.mask_mean, a.output_mean - b.output_mean
    return Moments(
        gram=(p * a.gram + q * b.gram).addr_(ds, ds, alpha=p * q),
        cross=(p * a.cross + q * b.cross).addr_(dy, ds, alpha=p * q),
        variance=p * a.variance + q * b.variance + p * q * dy.square(),
        mask_mean=p * a.mask_mean + q * b.mask_mean,
        output_mean=p * a.output_mean + q * b.output_mean,
        rows=m,
    )


def _counts(s: torch.Tensor) -> torch.Tensor:
    """s^T s of a 0/1 matrix (b, n), exactly."""
    if s.device.type == "cpu" and hasattr(torch, "_int_mm"):
        # Bytes into 32-bit integers: exact, and several times the rate of float32 where the processor has
        # VNNI.
        bytes_ = s.to(torch.int8)
        return torch._int_mm(bytes_.T, bytes_)
    floats = s.to(torch.float32)
    assert len(s) <= EXACT
    return floats.T @ floats
