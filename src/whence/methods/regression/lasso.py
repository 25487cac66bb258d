"""LASSO and elastic net for all targets: the penalty chosen per target on validation retrainings, then a
refit.

Ilyas et al. 2022, section 3: one penalty per target along a path, refit on train + validation at that
penalty. Unlike the released solver, the path starts at the true l_max, never at zero penalty, and weights are
in 0/1 units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from whence.errors import InputError
from whence.methods.regression import homotopy
from whence.methods.regression.fit import Fit, numpy64
from whence.methods.regression.moments import Moments, check_rows, moments, pooled
from whence.methods.regression.path import TOLERANCE, Design, Point, largest_penalty, solve, times, walk


def lasso(
    masks: np.ndarray,
    outputs: np.ndarray,
    validation_masks: np.ndarray | None = None,
    validation_outputs: np.ndarray | None = None,
    *,
    penalty: float | np.ndarray | None = None,
    penalties: int = 50,
    ratio: float = 1e-2,
    l1_ratio: float = 1.0,
    early_stopping: bool = True,
    patience: int = 5,
    refit: bool = True,
    bootstrap: int = 0,
    seed: int = 0,
    tol: float = TOLERANCE,
    device: torch.device | str = "cpu",
) -> Fit:
    """Sparse linear surrogates of every target.

    Parameters
    ----------
    masks (m, n) bool, outputs (m, t) : retrainings to fit; several rows may share a mask
    validation_masks, validation_outputs : retrainings that choose the penalty, of `penalties` values per
        target from l_max down to `ratio` l_max. Not needed with a fixed `penalty`, a number or (t,), in units
        of 1/2m |r|^2.
    l1_ratio : 1 is LASSO, less is elastic net
    early_stopping, patience : end a target's path after `patience` penalties without a lower validation error
    refit : solve once more on train and validation together at the chosen penalty
    bootstrap : number of resamplings of rows for the standard error (0: none); penalties are held fixed
    tol : sweeps stop when a further step would lower a target's objective by less than this share of it

    Returns
    -------
    Fit with diagnostics penalty, nonzeros, validation_error (mean square, before the refit) and gap (duality
    gap of the returned weights over var(y)/2: the objective is at most that far from its minimum).

    With far fewer retrainings than examples (`homotopy.pays`) LASSO paths are followed exactly, else swept.
    """
    masks, outputs = check_rows(masks, outputs)
    if not 0 < l1_ratio <= 1:
        raise InputError(f"l1_ratio is {l1_ratio}, but it must be in (0, 1]; for 0 use ridge.")
    if not 0 < ratio < 1 or penalties < 2:
        raise InputError(
            f"ratio {ratio} and penalties {penalties} give no path; pass a ratio in (0, 1) and 2 or more."
        )
    if penalty is not None and not np.all(np.isfinite(penalty) & (np.asarray(penalty) > 0)):
        raise InputError(f"penalty is {penalty}, but it must be positive and finite; for none use ols.")
    exact = l1_ratio == 1 and homotopy.pays(*masks.shape)
    diagnostics: dict[str, np.ndarray] = {}
    start = None
    final = None if exact else moments(masks, outputs, device=device)
    if penalty is not None:
        chosen = torch.as_tensor(
            np.broadcast_to(np.asarray(penalty, np.float64), outputs.shape[1:]).copy()
        ).to(device)
    else:
        if validation_masks is None or validation_outputs is None:
            raise InputError(
                "validation_masks and validation_outputs are missing: pass them, or a fixed penalty."
            )
        v_masks, v_outputs = check_rows(validation_masks, validation_outputs, what="validation", least=1)
        if v_masks.shape[1] != masks.shape[1] or v_outputs.shape[1] != outputs.shape[1]:
            raise InputError(
                f"validation_masks {v_masks.shape} and validation_outputs {v_outputs.shape} do not match "
                f"masks {masks.shape} and outputs {outputs.shape}; examples and targets must be the same."
            )
        grid = _Grid(penalties, ratio, patience if early_stopping else penalties, l1_ratio, tol)
        if final is None:
            chosen, error = grid.by_kinks(masks, outputs, v_masks, v_outputs, device)
        else:
            best = grid.by_sweeps(final, v_masks, v_outputs)
            chosen, error, start = best.penalty, best.error, best.weight
        diagnostics["validation_error"] = numpy64(error)
        if refit:
            if final is not None:
                final = pooled(final, moments(v_masks, v_outputs, device=device))
            masks, outputs = np.concatenate([masks, v_masks]), np.concatenate([outputs, v_outputs])

    if final is None:
        weight, bias, gap = _solve_by_kinks(masks, outputs, chosen)
    else:
        weight, gap = _solve_by_sweeps(final, chosen, l1_ratio, start)
        bias = final.bias(weight)
    reported = chosen
    if final is not None:
        # A penalty that weights never left is reported as the smallest that explains them: l_max.
        reported = torch.where(chosen > 0, chosen, largest_penalty(final, l1_ratio))
    diagnostics |= {
        "penalty": numpy64(reported),
        "nonzeros": numpy64(torch.count_nonzero(weight, dim=1)).astype(np.int64),
        "gap": numpy64(gap),
    }
    spread = (
        _bootstrap(masks, outputs, chosen, weight, l1_ratio, bootstrap, seed, device) if bootstrap else None
    )
    return Fit(numpy64(weight), numpy64(bias), spread, diagnostics)


@dataclass(frozen=True)
class _Grid:
    """Penalties tried for each target, and when to stop."""

    penalties: int
    ratio: float
    patience: int
    l1_ratio: float
    tol: float

    def by_sweeps(self, train: Moments, v_masks: np.ndarray, v_outputs: np.ndarray) -> _Best:
        design = Design(train)
        best = _Best(train, v_masks, v_outputs, self.patience)
        for rows in _chunks(v_outputs.shape[1], train):
            best.start(rows)
            walk(
                design,
                train.targets(rows),
                best.visit,
                count=self.penalties,
                ratio=self.ratio,
                l1_ratio=self.l1_ratio,
                tol=self.tol,
            )
        return best

    def by_kinks(
        self,
        masks: np.ndarray,
        outputs: np.ndarray,
        v_masks: np.ndarray,
        v_outputs: np.ndarray,
        device: torch.device | str,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(t,) penalties and validation errors."""
        rows = homotopy.Rows(masks, outputs, v_masks, device)
        penalty, error, settled = homotopy.choose(
            rows, v_outputs, count=self.penalties, ratio=self.ratio, patience=self.patience
        )
        rest = (~settled).cpu().numpy()
        if rest.any():
            best = self.by_sweeps(
                moments(masks, outputs[:, rest], device=device), v_masks, v_outputs[:, rest]
            )
            penalty[~settled], error[~settled] = best.penalty, best.error.double()
        return penalty, error


def _solve_by_sweeps(
    final: Moments, chosen: torch.Tensor, l1_ratio: float, start: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (t, n) and relative duality gaps (t,)."""
    design = Design(final, bfloat16=False)
    weight = torch.zeros_like(final.cross)
    gap = torch.zeros_like(final.variance)
    for rows in _chunks(len(gap), final):
        begin = None if start is None else start[rows]
        weight[rows], gap[rows] = solve(
            design, final.targets(rows), chosen[rows], l1_ratio=l1_ratio, start=begin
        )
    return weight, gap


def _solve_by_kinks(
    masks: np.ndarray, outputs: np.ndarray, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (t, n), bias (t,) and relative duality gaps (t,); what does not certify is swept from there."""
    rows = homotopy.Rows(masks, outputs, device=chosen.device)
    weight, gap = homotopy.solve(rows, chosen)
    rest = gap > homotopy.GAP
    if bool(rest.any()):
        final = moments(masks, outputs[:, rest.cpu().numpy()], device=chosen.device)
        swept, left = _solve_by_sweeps(final, chosen[rest], 1.0, weight[rest])
        closer = left < gap[rest]
        weight[rest] = torch.where(closer[:, None], swept, weight[rest])
        gap[rest] = torch.where(closer, left, gap[rest])
    return weight, rows.output_mean - weight @ rows.mask_mean, gap


def lasso_path(
    train: Moments,
    *,
    penalties: int = 50,
    ratio: float = 1e-2,
    l1_ratio: float = 1.0,
    tol: float = TOLERANCE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole path of every target: penalty (t, k), weight (t, k, n) and duality gap over var(y)/2 (t, k).

    For looking at paths and for comparisons; `lasso` keeps only the point that validates best.
    """
    t, n = train.cross.shape
    design = Design(train)
    weight = torch.zeros(t, penalties, n, device=train.cross.device)
    penalty = torch.zeros(t, penalties, dtype=torch.float64, device=train.cross.device)
    gap = torch.zeros_like(penalty)
    for rows in _chunks(t, train):

        def keep(point: Point, relative_gap: torch.Tensor, rows: slice = rows) -> None:
            weight[rows, point.k] = point.x * point.penalty[:, None].float()
            penalty[rows, point.k] = point.penalty
            gap[rows, point.k] = relative_gap.double()

        walk(design, train.targets(rows), keep, count=penalties, ratio=ratio, l1_ratio=l1_ratio, tol=tol)
    return numpy64(penalty), weight.cpu().numpy(), numpy64(gap)


class _Best:
    """Per target: the penalty of lowest validation error so far, and for how long it has been the best."""

    def __init__(self, train: Moments, masks: np.ndarray, outputs: np.ndarray, patience: int):
        t, n = train.cross.shape
        device = train.cross.device
        # Residuals of validation rows are centred with the means of the training rows: the bias is then
        # implied.
        s = torch.as_tensor(masks, device=device).double() - train.mask_mean
        self.design = s.T.float().contiguous()  # (n, validation rows)
        self.outputs = (torch.as_tensor(outputs, device=device).double() - train.output_mean).T.float()
        self.patience = patience
        self.weight = torch.zeros(t, n, device=device)
        self.penalty = torch.zeros(t, dtype=torch.float64, device=device)
        self.error = torch.full((t,), torch.inf, device=device)
        self.waited = torch.zeros(t, dtype=torch.int64, device=device)

    def start(self, rows: slice) -> None:
        self.offset = rows.start

    def visit(self, point: Point, gap: torch.Tensor) -> torch.Tensor:
        targets = point.targets + self.offset
        w = point.x * point.penalty[:, None].float()
        predicted = times(w, self.design)
        if predicted is None:
            predicted = w @ self.design
        error = (predicted - self.outputs[targets]).square().mean(1)
        better = error < self.error[targets]
        won = targets[better]
        self.error[won], self.penalty[won], self.weight[won] = error[better], point.penalty[better], w[better]
        # Waiting starts with the first non-zero weight: before it the path has not begun.
        begun = torch.count_nonzero(w, dim=1) > 0
        self.waited[targets] = torch.where(better, 0, self.waited[targets] + begun.long())
        return self.waited[targets] < self.patience


def _chunks(targets: int, design: Moments) -> Iterator[slice]:
    """Targets solved together: enough for a product at full rate, few enough that the state stays in
    cache."""
    size = 256 if design.gram.device.type == "cpu" else 4096
    return (slice(start, min(start + size, targets)) for start in range(0, targets, size))


def _bootstrap(
    masks: np.ndarray,
    outputs: np.ndarray,
    penalty: torch.Tensor,
    weight: torch.Tensor,
    l1_ratio: float,
    count: int,
    seed: int,
    device: torch.device | str,
) -> np.ndarray:
    """(t, n) standard deviation of the weights over resampled retrainings, penalties fixed."""
    generator = np.random.default_rng(seed)
    total, square = torch.zeros_like(weight), torch.zeros_like(weight)
    exact = l1_ratio == 1 and homotopy.pays(*masks.shape) and bool((penalty > 0).all())
    for _ in range(count):
        rows = generator.integers(0, len(masks), len(masks))
        if exact:
            moved = (
                homotopy.solve(homotopy.Rows(masks[rows], outputs[rows], device=device), penalty)[0] - weight
            )
            total += moved
            square += moved.square()
            continue
        sample = moments(masks[rows], outputs[rows], device=device)
        design = Design(sample, bfloat16=False)
        for part in _chunks(len(weight), sample):
            w, _ = solve(
                design,
                sample.targets(part),
                penalty[part],
                l1_ratio=l1_ratio,
                start=weight[part],
                tol=1e-6,
                rounds=1,
            )
            moved = w - weight[part]
            total[part] += moved
            square[part] += moved.square()
    variance = (square - total.square() / count) / max(count - 1, 1)
    return numpy64(variance.clamp(min=0).sqrt())
