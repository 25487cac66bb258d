"""The scale of an attribution that is right only up to scale, fitted on retrainings that it never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.alignment import heldout
from whence.evaluate.intervals import student_quantile

if TYPE_CHECKING:
    from whence.bank import Bank

FEWEST = 8  # masks


def fit_scale(attribution: Attribution, bank: Bank, part: str = "validation") -> Attribution:
    """The same attribution in absolute terms: times the one number c, for all targets, with which it predicts
    retrainings best.

    c is the slope, through all targets, of outputs on predictions, both less their mean over masks; logits
    are centred over classes. Its 95 % interval, by leaving out one mask at a time, stands in the provenance
    under "scale". Biases are refitted.

    Parameters
    ----------
    bank : retrainings of the same study, with the attributed output.
    part : which to fit on, "validation" or "held_out"; whoever reports on a part must fit on the other.

    Raises
    ------
    InputError : a bank of another study, too few masks, an attribution whose scale cannot be told from 0.
    """
    judged = heldout(attribution, bank, part, attribution.output)
    if len(judged.masks) < FEWEST:
        raise InputError(
            f"the {part} part of the bank has {len(judged.masks)} masks, but a scale needs {FEWEST} or more; "
            "retrain more."
        )
    order = {identity: i for i, identity in enumerate(bank.train_ids.tolist())}
    masks = judged.masks[:, [order[identity] for identity in attribution.train_ids.tolist()]]
    weight, means = attribution.weight, judged.means
    if weight.ndim == 3:
        weight = weight - weight.mean(1, keepdims=True)
        means = means - means.mean(2, keepdims=True)
    flat = weight.reshape(-1, weight.shape[-1]).astype(np.float64)
    predicted = (masks - masks.mean(0)) @ flat.T
    observed = judged.columns(means) - judged.columns(means).mean(0)
    across, along = (predicted * observed).sum(1), np.square(predicted).sum(1)  # of each mask
    if not along.sum() > 0:
        raise InputError("attribution predicts the same for every mask, so it has no scale to fit.")
    scale = float(across.sum() / along.sum())
    without = (across.sum() - across) / (along.sum() - along)
    count = len(without)
    error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    half = student_quantile(count - 1) * error
    if scale - half <= 0:
        raise InputError(
            f"attribution ({attribution.method or 'unnamed method'}) predicts the {part} retrainings with "
            f"scale {scale:.3g} ({scale - half:.3g} to {scale + half:.3g}), which cannot be told from 0; it "
            "says nothing that could be scaled."
        )
    bias = judged.columns(judged.means).mean(0).reshape(attribution.bias.shape)
    scaled = Attribution(
        (attribution.weight * scale).astype(attribution.weight.dtype),
        target_ids=attribution.target_ids,
        train_ids=attribution.train_ids,
        output_ids=attribution.output_ids,
        output=attribution.output,
        calibrated=True,
        method=f"{attribution.method}, scaled".removeprefix(", "),
        keep=attribution.keep,
        standard_error=None if attribution.standard_error is None else attribution.standard_error * scale,
        provenance={
            **attribution.provenance,
            "scale": {"value": scale, "interval": [scale - half, scale + half], "part": part},
        },
    )
    offset = bias - scaled.predict(masks.mean(0))
    scaled.data["bias"] = (scaled.data["bias"].dims, offset.astype(scaled.bias.dtype))
    return scaled
