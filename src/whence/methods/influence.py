"""Influence functions: what one Newton step says about leaving an example out.

Koh and Liang 2017 (arXiv 1703.04730); with Kronecker-factored curvature Grosse et al. 2023 (arXiv
2308.03296).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from whence.attribution import Attribution
from whence.bank import Bank
from whence.errors import InputError
from whence.methods.base import Method, first_output, provenance
from whence.methods.gradients import hessian as curve
from whence.methods.gradients import kfac
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import Checkpoint, Given, checkpoints
from whence.methods.gradients.damping import OF_MEAN_EIGENVALUE, auto_damping, weight_decay
from whence.methods.gradients.network import Network

if TYPE_CHECKING:
    from whence.study import Recipe, Study

HESSIANS = ("ekfac", "kfac", "explicit", "cg", "identity")
_MOST = 20_000  # weights of which the whole matrix is formed


class Influence(Method):
    """Influence of every training example on every target, averaged over trained models.

    ``-(1/n) grad f(z)' (H + damping)^-1 (grad loss(x) + weight_decay * w)``: the change of the output f when
    x joins the n examples trained on, to first order. H is the curvature of the mean training loss with the
    recipe's weight decay. The last term is the share of the weight decay that x brings along where a recipe
    averages over what it trains on; with ``subset="weighted"`` it is absent.

    Parameters
    ----------
    hessian : "ekfac" or "kfac" (Kronecker factors layer by layer, with or without corrected eigenvalues: any
        size, fast, right up to scale), "explicit" (the whole matrix; up to 20,000 weights), "cg" (conjugate
        gradients, any size, slow), "identity" (no curvature: gradient dot products)
    damping : added to every eigenvalue of H, in units of the loss; "auto": for Kronecker factors a tenth of
        each layer's mean eigenvalue (Grosse et al. 2023), else one over the summed learning rates of the
        recipe (`damping.auto_damping`), by which gradient descent that stopped early differs from the minimum
    curvature : "ggn" (never indefinite) or "hessian"; for "explicit" and "cg"
    checkpoints : a number of models to train on random halves, a Bank that kept some, or state dicts or
        safetensors files (those count as trained on everything)
    first : take only so many of them
    iterations, tolerance : of the conjugate gradients, residual relative to the gradient
    seed : of models trained here
    device : "cpu", "cuda", ...; default the CPU
    """

    needs = ("ids", "inputs", "answers", "training")

    def __init__(
        self,
        hessian: Literal["ekfac", "kfac", "explicit", "cg", "identity"] = "ekfac",
        damping: float | Literal["auto"] = "auto",
        curvature: curve.Curvature = "ggn",
        checkpoints: Given = 5,
        *,
        first: int | None = None,
        iterations: int = 200,
        tolerance: float = 1e-5,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        if hessian not in HESSIANS:
            raise InputError(f"hessian is {hessian!r}, but it must be one of {', '.join(HESSIANS)}.")
        if curvature not in ("ggn", "hessian"):
            raise InputError(f'curvature is {curvature!r}, but it must be "ggn" or "hessian".')
        if damping != "auto" and (isinstance(damping, str) or not 0 <= damping < float("inf")):
            raise InputError(f'damping must be "auto" or a number of at least 0, received {damping!r}.')
        if iterations < 1 or not tolerance > 0:
            raise InputError(
                f"iterations={iterations} and tolerance={tolerance} must be at least 1 and above 0."
            )
        self.hessian = hessian
        self.damping = damping
        self.curvature = curvature
        self.checkpoints = checkpoints
        self.first = first
        self.iterations = iterations
        self.tolerance = tolerance
        self.seed = seed
        self.device = device

    def attribute(self, source: Study, output: str | None = None) -> Attribution:
        """Influences (target, train) on one output."""
        self.require(source, output)
        output = first_output(source, output)
        network = Network(source, output, self.device)
        self._check_size(network)
        found = checkpoints(source, self.checkpoints, first=self.first, seed=self.seed, device=self.device)
        weight = np.zeros((len(source.target_ids), len(source.train_ids)))
        bias = np.zeros(len(weight))
        dampings, residuals = [], []
        for checkpoint in found:
            check(network.load(checkpoint), network.loss, ridge=self._shift(network, checkpoint))
            scores, values, damping, residual = self._one(network, checkpoint)
            weight += scores / len(found)
            seen = scores.sum(1) if checkpoint.mask is None else scores @ checkpoint.mask
            bias += (values - seen) / len(found)
            dampings.append(damping)
            residuals.append(residual)
        calibrated = self.hessian in ("explicit", "cg")
        return Attribution(
            weight.astype(np.float32),
            bias=bias.astype(np.float32) if calibrated else None,
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output=output,
            units=None if self.hessian != "identity" else "gradient product",
            calibrated=calibrated,
            method=f"influence ({self.hessian}, {len(found)} models)",
            provenance=provenance(
                source,
                self,
                checkpoints=[checkpoint.name for checkpoint in found],
                damping=dampings,
                damping_of_mean_eigenvalue=self._relative,
                residual=max(residuals),
            ),
        )

    def _shift(self, network: Network, checkpoint: Checkpoint) -> float | None:
        """What is added to the curvature, None where nothing is inverted."""
        if self.hessian == "identity":
            return None
        count = len(network.train.y) if checkpoint.mask is None else int(checkpoint.mask.sum())
        recipe = network.trainer.recipe
        return weight_decay(recipe) + self._damping(recipe, count) + self._relative

    @property
    def _relative(self) -> float:
        """Share of each layer's mean eigenvalue that damps it."""
        return OF_MEAN_EIGENVALUE if self.damping == "auto" and self.hessian in ("kfac", "ekfac") else 0.0

    def _damping(self, recipe: Recipe, count: int) -> float:
        """What damps all layers alike."""
        if self.damping != "auto":
            return float(self.damping)
        return 0.0 if self._relative else auto_damping(recipe, count)

    def _check_size(self, network: Network) -> None:
        p = sum(t.numel() for t in network.module.parameters() if t.requires_grad)
        if self.hessian == "explicit" and p > _MOST:
            raise InputError(
                f'hessian="explicit" forms a matrix of all weights, at most {_MOST:,}, and this network has '
                f'{p:,}; take "ekfac" or "cg".'
            )

    def _one(self, network: Network, checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Influences of one model, its outputs on the targets, the damping used, the residual left."""
        recipe = network.trainer.recipe
        index = None
        if checkpoint.mask is not None:
            index = torch.as_tensor(np.flatnonzero(checkpoint.mask), device=network.device)
        count = len(network.train.y) if index is None else len(index)
        decay = weight_decay(recipe)
        damping = self._damping(recipe, count)
        # An example that joins a mean over examples weakens the weight decay, relative to all losses.
        share = decay if recipe.subset == "shorter" else 0.0
        if self.hessian in ("kfac", "ekfac"):
            blocks = kfac.fit(network, index, "kfac" if self.hessian == "kfac" else "ekfac", self.seed)
            scores = kfac.influences(network, blocks, decay + damping, share, self._relative)
            return scores.double().cpu().numpy() / -count, _values(network), damping, 0.0
        targets = torch.cat(list(curve.example_gradients(network, network.targets, "output")))
        _require_finite(targets, checkpoint.name)
        solved, residual = self._solve(network, index, targets, decay + damping)
        brought = share * curve.flatten(network.parameters)
        columns = []
        for gradients in curve.example_gradients(network, network.train, "loss"):
            _require_finite(gradients, checkpoint.name)
            columns.append(solved @ (gradients + brought).T)
        weight = torch.cat(columns, 1).double().cpu().numpy() / -count
        return weight, _values(network), damping, residual

    def _solve(
        self, network: Network, index: torch.Tensor | None, targets: torch.Tensor, shift: float
    ) -> tuple[torch.Tensor, float]:
        if self.hessian == "identity":
            return targets, 0.0
        if self.hessian == "explicit":
            matrix = curve.explicit(network, index, self.curvature, shift)
            return curve.solve_explicit(matrix, targets), 0.0
        multiply = curve.product(network, index, self.curvature, shift)
        return curve.solve_cg(multiply, targets, self.iterations, self.tolerance)

    def __repr__(self) -> str:
        given = self.checkpoints
        if isinstance(given, Bank):
            given_as = f"Bank({given.path})" if hasattr(given, "path") else "Bank"
        else:
            given_as = f"{len(given)} given" if isinstance(given, Sequence) else repr(given)
        return (
            f"Influence({self.hessian!r}, damping={self.damping!r}, curvature={self.curvature!r}, "
            f"checkpoints={given_as}, first={self.first}, seed={self.seed})"
        )


def _values(network: Network) -> np.ndarray:
    with torch.no_grad():
        found = [
            network.output(network.logits(network.parameters, x), y)
            for x, y in curve.batches(network.targets, None, 1024)
        ]
    return torch.cat(found).double().cpu().numpy()


def _require_finite(gradients: torch.Tensor, name: Any) -> None:
    if not torch.isfinite(gradients).all():
        raise InputError(f"gradients at {name} are not finite; leave that checkpoint out.")
