"""Guided datamodels: regression on retrainings, started from cheap attributions.

A gradient method knows where influence runs but not how strongly; retrainings know how strongly, but too few
of them cannot tell where. A guided datamodel lets the retrainings correct the prior by few numbers that all
targets share, and only then target by target:

1. several priors P_k (say TRAK at several ridges) are weighed, W = sum_k a_k P_k, one a_k for all targets;
2. each training example i gets a factor, W_zi <- W_zi (1 + v_i), one v_i for all targets z;
3. what is left is regressed on the masks as a ridge datamodel, with one penalty for all targets.

For m retrainings and t targets, steps 1 and 2 have m t equations for k + n unknowns, where an ordinary
datamodel has m equations for n unknowns. Step 2 is linear least squares: with S the centred masks and R the
residual outputs, (S'S o W'W + penalty) v = diag(S' R W), o the elementwise product, so its cost does not grow
with m t n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, keep_of, provenance
from whence.methods.regression.ridge import Spectrum, loo_errors

FEWEST = 20  # retrainings below which strengths chosen by cross-validation are guesswork
_STACK_RIDGE = 1e-3  # priors at neighbouring settings are nearly collinear
_FACTORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)  # penalties of v, in mean diagonals of S'S


class GuidedDatamodel(Method):
    """A datamodel that starts from one or several cheap attributions.

    Parameters
    ----------
    prior : an Attribution, or several (say TRAK at several ridges, or TRAK and a similarity), of the same
        targets and training examples as the bank; scale does not matter, sign does not either
    folds : of the cross-validation over retrainings that chooses the strength of step 2
    models : use the first so many retrainings of the train and validation parts (default all)
    residual : whether step 3 is tried; it is taken only where leave-one-out says that it helps

    All rows of the train and validation parts are fitted to; held-out rows are never read. Weights are in
    units of the output per example and calibrated. Memory: two n x n matrices in float64.
    """

    needs = ("retrainings", "ids")

    def __init__(
        self,
        prior: Attribution | Sequence[Attribution],
        *,
        folds: int = 5,
        models: int | None = None,
        residual: bool = True,
        device: str = "cpu",
    ) -> None:
        priors = as_priors(prior)
        if folds < 2:
            raise InputError(f"folds must be at least 2, received {folds}.")
        self._priors = priors
        self.prior = [p.method for p in priors]
        self.folds = folds
        self.models = models
        self.residual = residual
        self.device = device

    def attribute(self, bank: Any, output: str | None = None) -> Attribution:
        """Fit to the train and validation parts of `bank`: (target, train)."""
        self.require(bank, output)
        output = first_output(bank, output)
        masks, outputs = _fitting(bank, output, self.models)
        if outputs.ndim != 2:
            raise InputError(f"{output!r} has several numbers per target; a prior guides one, say margin.")
        if len(masks) < max(FEWEST, self.folds):
            raise InputError(
                f"bank has {len(masks)} retrainings to fit to, but a guided datamodel needs {FEWEST}."
            )
        targets, train = bank.target_ids.tolist(), bank.train_ids.tolist()
        priors = [aligned(prior, targets, train) for prior in self._priors]
        s, y = (
            torch.as_tensor(a, device=self.device, dtype=torch.float64)
            for a in (masks.astype(np.float64), outputs)
        )
        mask_mean, output_mean = s.mean(0), y.mean(0)
        weight, told = guide(s - mask_mean, y - output_mean, priors, self.folds, self.residual)
        return Attribution(
            weight.float().cpu().numpy(),
            bias=(output_mean - weight @ mask_mean).cpu().numpy(),
            target_ids=bank.target_ids,
            train_ids=bank.train_ids,
            output=output,
            units=f"{output} per example",
            calibrated=True,
            method=f"guided datamodel ({', '.join(self.prior)})",
            keep=keep_of(bank, masks),
            provenance=provenance(bank, self, models=len(masks), **told),
        )


def guide(
    s: torch.Tensor, y: torch.Tensor, priors: list[torch.Tensor], folds: int = 5, residual: bool = True
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Weights (t, n) from centred masks (m, n), centred outputs (m, t) and priors (t, n); and what was
    chosen.

    Targets count alike: outputs are weighed by one over their variance.
    """
    share = 1 / y.square().mean(0).clamp_min(1e-12)
    priors = [_unit(p.to(s), s, k) for k, p in enumerate(priors)]

    def fit(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = _stack(s[rows], y[rows], priors, share)
        return a, sum((a[k] * p for k, p in enumerate(priors)), torch.zeros_like(priors[0]))

    rows = torch.arange(len(s), device=s.device)
    errors = torch.zeros(len(_FACTORS), dtype=torch.float64)
    for fold in range(folds):
        out = rows % folds == fold
        _, start = fit(~out)
        for k, factors in enumerate(_factors(s[~out], y[~out], start, share)):
            left = y[out] - s[out] @ (start * (1 + factors)).T
            errors[k] += float((left.square() * share).sum())
    a, start = fit(torch.ones_like(rows, dtype=torch.bool))
    best = int(errors.argmin())
    weight = start * (1 + next(_factors(s, y, start, share, (_FACTORS[best],))))
    told = {
        "stack": [float(x) for x in a],
        "factor_penalty": None if np.isinf(_FACTORS[best]) else _FACTORS[best],
        "factor_errors": (errors / y.numel()).tolist(),
    }
    if residual:
        extra, penalty = _residual(s, y - s @ weight.T, share)
        weight = weight + extra
        told["residual_penalty"] = penalty
    return weight, told


def _unit(prior: torch.Tensor, s: torch.Tensor, number: int) -> torch.Tensor:
    """A prior scaled so that its predictions have mean square 1."""
    size = (s @ prior.T).square().mean()
    if not size > 1e-20 * prior.square().mean():
        raise InputError(
            f"prior {number} predicts the same for every retraining (it is zero, or one number for all "
            "examples), so there is nothing to be guided by; pass another."
        )
    return prior / size.sqrt()


def _stack(s: torch.Tensor, y: torch.Tensor, priors: list[torch.Tensor], share: torch.Tensor) -> torch.Tensor:
    """Step 1: a (k,) of the pooled least squares y ~ sum_k a_k S P_k', lightly ridged."""
    predictions = [s @ p.T for p in priors]
    gram = torch.stack([torch.stack([(f * g * share).sum() for g in predictions]) for f in predictions])
    right = torch.stack([(f * y * share).sum() for f in predictions])
    ridge = _STACK_RIDGE * gram.diagonal().mean() if len(priors) > 1 else 0.0
    return torch.linalg.solve(gram + ridge * torch.eye(len(priors)).to(gram), right)


def _factors(
    s: torch.Tensor,
    y: torch.Tensor,
    start: torch.Tensor,
    share: torch.Tensor,
    penalties: Sequence[float] = _FACTORS,
) -> Any:
    """Step 2: v (n,) at each penalty; at infinity v = 0."""
    masks = s.T @ s
    scaled = start * share[:, None]
    gram = masks * (start.T @ scaled)
    right = ((s.T @ (y - s @ start.T)) * scaled.T).sum(1)
    unit = gram.diagonal().mean()
    for penalty in penalties:
        if np.isinf(penalty):
            yield torch.zeros_like(right)
            continue
        ridged = gram.clone()
        ridged.diagonal().add_(penalty * unit)
        yield torch.cholesky_solve(right[:, None], torch.linalg.cholesky(ridged))[:, 0]


def _residual(s: torch.Tensor, left: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, float | None]:
    """Step 3: ridge weights (t, n) of what is left and its penalty, or zeros and None where they do not
    help.

    One penalty for all targets: chosen for each it would follow the noise.
    """
    spectrum = Spectrum.of(s.cpu().numpy(), left.cpu().numpy(), s.device, left=True)
    grid = spectrum.values.mean() * torch.logspace(-2, 4, 25, dtype=torch.float64, device=s.device)
    errors = (loo_errors(spectrum, grid) * share).mean(1)
    rows = len(s)
    nothing = (spectrum.centred * rows / (rows - 1)).square().mean(0).mul(share).mean()
    best = int(errors.argmin())
    if errors[best] >= nothing:
        return torch.zeros(left.shape[1], s.shape[1]).to(s), None
    return spectrum.weight(grid[best].expand(left.shape[1])), float(grid[best])


def _fitting(bank: Any, output: str, models: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Masks and outputs of the train and validation parts together, in the order of the bank's rows."""
    samples = [bank.select(part, output) for part in ("train", "validation")]
    order = np.argsort(np.concatenate([sample.rows for sample in samples]), kind="stable")
    masks = np.concatenate([sample.masks for sample in samples])[order]
    outputs = np.concatenate([sample.outputs for sample in samples])[order]
    if models is not None and not 2 <= models <= len(masks):
        raise InputError(f"models is {models}, but the bank has {len(masks)} retrainings to fit to.")
    return masks[:models], outputs[:models]


def as_priors(prior: Attribution | Sequence[Attribution]) -> list[Attribution]:
    """One or several priors as a list, or an `InputError` that says what was received."""
    priors = [prior] if isinstance(prior, Attribution) else list(prior)
    if not priors or not all(isinstance(p, Attribution) for p in priors):
        raise InputError(
            "prior must be an Attribution or several, received "
            f"{'none' if not priors else type(priors[0]).__name__}; pass TRAK(...).attribute(study), say."
        )
    return priors


def aligned(
    prior: Attribution, targets: Sequence[Any], train: Sequence[Any], kind: str = "target"
) -> torch.Tensor:
    """The prior's weights, float64 ``(len(targets), len(train))``, of these ids in this order.

    kind : what the targets are called. InputError: ids that the prior lacks; several outputs per target.
    """
    places = []
    for what, have, want in (
        (kind, prior.target_ids, targets),
        ("training example", prior.train_ids, train),
    ):
        position = {name: i for i, name in enumerate(have.tolist())}
        absent = [name for name in want if name not in position]
        if absent:
            raise InputError(
                f"prior ({prior.method}) has no {what} {absent[0]!r}, it lacks {len(absent)} of the bank's "
                f"{what}s; make it on the study that was retrained."
            )
        places.append([position[name] for name in want])
    weight = np.asarray(prior.weight)
    if weight.ndim != 2:
        raise InputError(f"prior ({prior.method}) has several outputs per target; pass one of one output.")
    return torch.as_tensor(weight[np.ix_(*places)], dtype=torch.float64)
