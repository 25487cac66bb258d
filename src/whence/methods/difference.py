"""Difference of means: how outputs differ between retrainings with and without an example.

The empirical influence of Feldman and Zhang 2020 (arXiv 2008.03703), section 2, for any output.
"""

from __future__ import annotations

from typing import Any

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
from whence.methods.regression import Fit
from whence.methods.regression.moments import check_rows

ROWS = 4096


def difference_of_means(masks: np.ndarray, outputs: np.ndarray) -> Fit:
    """weight[t, j] = mean(y_t | j in) - mean(y_t | j out), with Welch's standard error (unequal variances).

    masks (m, n) bool, outputs (m, t). An example that is in (or out of) fewer than two retrainings has weight
    0 and an infinite standard error: nothing is known about it.
    """
    masks, outputs = check_rows(masks, outputs, least=4)
    m, n = masks.shape
    centre = outputs.mean(0, dtype=np.float64)
    inside, inside2 = np.zeros((outputs.shape[1], n)), np.zeros((outputs.shape[1], n))
    total2 = np.zeros((outputs.shape[1], 1))
    for start in range(0, m, ROWS):
        s = masks[start : start + ROWS].astype(np.float64)
        y = outputs[start : start + ROWS].astype(np.float64) - centre
        inside += y.T @ s
        inside2 += np.square(y).T @ s
        total2 += np.square(y).sum(0)[:, None]
    n1 = masks.sum(0)
    known = (n1 >= 2) & (m - n1 >= 2)
    n1 = np.where(known, n1, 2)
    n0 = np.where(known, m - n1, 2)
    mean1, mean0 = inside / n1, -inside / n0  # centred outputs sum to zero
    variance1 = (inside2 - n1 * mean1**2) / (n1 - 1)
    variance0 = (total2 - inside2 - n0 * mean0**2) / (n0 - 1)
    error = np.sqrt(np.maximum(variance1 / n1 + variance0 / n0, 0))
    weight = np.where(known, mean1 - mean0, 0.0)
    bias = centre - weight @ masks.mean(0)
    return Fit(weight, bias, np.where(known, error, np.inf))


class DifferenceOfMeans(Method):
    """Empirical influence: one subtraction per pair, with standard errors; the baseline a regression has to
    beat.

    Each weight is in units of the output per example. Summed over many examples their noise adds up, so
    predictions of outputs are not calibrated. Uses train and validation parts (nothing is tuned).

    Parameters
    ----------
    models : use the first so many retrainings of the training part only (default: all, and the validation
        part)
    """

    needs = ("retrainings", "ids")

    def __init__(self, *, models: int | None = None) -> None:
        self.models = models

    def attribute(self, bank: Any, output: str | None = None) -> Attribution:
        """Differences over the train (and validation) part of `bank`; targets are rows."""
        self.require(bank, output)
        output = first_output(bank, output)
        masks, outputs = retrainings(bank, "train", output, self.models)
        if self.models is None:
            v_masks, v_outputs = retrainings(bank, "validation", output)
            masks, outputs = np.concatenate([masks, v_masks]), np.concatenate([outputs, v_outputs])
        if len(masks) < 4:
            raise InputError(
                f"bank has {len(masks)} retrainings to compare, but a difference of means needs 4 or more."
            )
        columns, shape = flat_outputs(outputs)
        fit = difference_of_means(masks, columns)
        return Attribution(
            np.asarray(unflatten(fit.weight, shape), np.float32),
            bias=np.asarray(unflatten(fit.bias, shape), np.float32),
            standard_error=np.asarray(unflatten(fit.standard_error, shape), np.float32),
            target_ids=bank.target_ids,
            train_ids=bank.train_ids,
            output_ids=output_ids(bank, shape),
            output=output,
            calibrated=False,
            method="difference of means",
            keep=keep_of(bank, masks),
            provenance=provenance(bank, self, train_rows=len(masks)),
        )
