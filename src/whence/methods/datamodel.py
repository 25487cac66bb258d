"""Datamodels: regress the outputs of retrained models on which examples they were trained on.

Ilyas, Park, Engstrom, Leclerc, Madry 2022 (arXiv 2202.00622), section 3.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import (
    Method,
    first_output,
    flat_outputs,
    keep_of,
    output_ids,
    provenance,
    retrainings,
    unflatten,
)
from whence.methods.regression import Fit, lasso, ols, ridge

Penalty = Literal["lasso", "ridge", "elastic_net", "ols", "auto", "best"]
PENALTIES = ("lasso", "ridge", "elastic_net", "ols", "auto", "best")
FEWEST = 20  # training retrainings below which choosing a penalty is guesswork


class Datamodel(Method):
    """A linear datamodel of every target.

    Parameters
    ----------
    penalty : "lasso" (the paper's), "ridge", "elastic_net", "ols" or "auto" (also called "best"): LASSO or
        ridge, whichever has the lower validation error relative to the variance, averaged over targets
    models : use the first so many retrainings of the training part (default all), for learning curves
    penalties, ratio : the path: how many penalties, from the largest useful one down to `ratio` of it
    l1_ratio : share of the L1 part of the elastic net
    early_stopping, patience, refit : see `whence.methods.regression.lasso`
    bootstrap : resamplings for standard errors of sparse weights; ridge and OLS have closed forms
    device : where to solve ("cpu", "cuda")

    Weights are in units of the output per example, in 0/1 terms, and calibrated.
    """

    needs = ("retrainings", "ids")

    def __init__(
        self,
        penalty: Penalty = "lasso",
        *,
        models: int | None = None,
        penalties: int = 50,
        ratio: float = 1e-2,
        l1_ratio: float = 0.5,
        early_stopping: bool = True,
        patience: int = 5,
        refit: bool = True,
        bootstrap: int = 0,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if penalty not in PENALTIES:
            raise InputError(f"penalty is {penalty!r}, but it must be one of {', '.join(PENALTIES)}.")
        self.penalty = penalty
        self.models = models
        self.penalties = penalties
        self.ratio = ratio
        self.l1_ratio = l1_ratio
        self.early_stopping = early_stopping
        self.patience = patience
        self.refit = refit
        self.bootstrap = bootstrap
        self.seed = seed
        self.device = device

    def attribute(self, bank: Any, output: str | None = None) -> Attribution:
        """Fit on the training part of `bank`, choose penalties on its validation part, never look at the
        rest."""
        self.require(bank, output)
        output = first_output(bank, output)
        masks, outputs = retrainings(bank, "train", output, self.models)
        v_masks, v_outputs = retrainings(bank, "validation", output)
        columns, shape = flat_outputs(outputs)
        if self.penalty != "ols" and (len(masks) < FEWEST or len(v_masks) < 2):
            raise InputError(
                f"bank has {len(masks)} retrainings to fit and {len(v_masks)} to validate, but a penalty "
                f"needs {FEWEST} and 2 at least; retrain more or use DifferenceOfMeans."
            )
        name, fit = self._fit(masks, columns, v_masks, flat_outputs(v_outputs)[0])
        return Attribution(
            np.asarray(unflatten(fit.weight, shape), np.float32),
            bias=np.asarray(unflatten(fit.bias, shape), np.float32),
            standard_error=None if fit.standard_error is None else unflatten(fit.standard_error, shape),
            diagnostics={key: unflatten(values, shape) for key, values in fit.diagnostics.items()},
            target_ids=bank.target_ids,
            train_ids=bank.train_ids,
            output_ids=output_ids(bank, shape),
            output=output,
            calibrated=True,
            method=f"datamodel ({name})",
            keep=keep_of(bank, masks),
            provenance=provenance(bank, self, train_rows=len(masks), validation_rows=len(v_masks)),
        )

    def fit(
        self,
        masks: np.ndarray,
        outputs: np.ndarray,
        validation_masks: np.ndarray | None = None,
        validation_outputs: np.ndarray | None = None,
    ) -> Fit:
        """The same on plain arrays: masks (m, n) bool, outputs (m, t); no bank, no ids."""
        return self._fit(masks, outputs, validation_masks, validation_outputs)[1]

    def _fit(self, *arrays: Any) -> tuple[str, Fit]:
        if self.penalty in ("auto", "best"):
            candidates = [("LASSO", self._sparse(1.0, arrays)), ("ridge", self._ridge(arrays))]
            variance = np.asarray(arrays[3]).var(0) if arrays[3] is not None else 1.0
            return min(
                candidates,
                key=lambda item: np.mean(
                    item[1].diagnostics["validation_error"] / np.maximum(variance, 1e-30)
                ),
            )
        if self.penalty == "ridge":
            return "ridge", self._ridge(arrays)
        if self.penalty == "ols":
            return "OLS", ols(*(_together(arrays) if self.refit else arrays[:2]), device=self.device)
        if self.penalty == "lasso":
            return "LASSO", self._sparse(1.0, arrays)
        return "elastic net", self._sparse(self.l1_ratio, arrays)

    def _sparse(self, l1_ratio: float, arrays: tuple[Any, ...]) -> Fit:
        return lasso(
            *arrays,
            penalties=self.penalties,
            ratio=self.ratio,
            l1_ratio=l1_ratio,
            early_stopping=self.early_stopping,
            patience=self.patience,
            refit=self.refit,
            bootstrap=self.bootstrap,
            seed=self.seed,
            device=self.device,
        )

    def _ridge(self, arrays: tuple[Any, ...]) -> Fit:
        return ridge(*arrays, refit=self.refit, device=self.device)


def _together(arrays: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Least squares has nothing to choose: it fits train and validation rows together."""
    masks, outputs, v_masks, v_outputs = arrays
    if v_masks is None or v_outputs is None or len(v_masks) == 0:
        return masks, outputs
    return np.concatenate([masks, v_masks]), np.concatenate([outputs, v_outputs])
