"""Lays an attribution beside the retrainings that judge it: same targets, same training examples, same
output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank

_FEWEST_MASKS = 3


@dataclass(frozen=True)
class Heldout:
    """Outputs of one part of a bank for the targets of an attribution.

    `masks` is ``(g, n)`` in the bank's training order, `outputs` ``(g, seeds, t[, c])`` and `means` its mean
    over seeds; `output` names what was recorded.
    """

    masks: np.ndarray
    outputs: np.ndarray
    target_ids: np.ndarray
    output: str
    part: str

    @property
    def means(self) -> np.ndarray:
        return self.outputs.mean(axis=1, dtype=np.float64)

    @property
    def seeds(self) -> int:
        return int(self.outputs.shape[1])

    @property
    def targets(self) -> int:
        return int(self.outputs.shape[2])

    def columns(self, values: np.ndarray) -> np.ndarray:
        """``(g, ..., t[, c])`` with targets and outputs flattened into one last axis, the outputs of a target
        together.
        """
        lead = values.ndim - (self.outputs.ndim - 2)
        return values.reshape(*values.shape[:lead], -1)


def heldout(
    attribution: Attribution, bank: Bank, part: str = "held_out", output: str | None = None
) -> Heldout:
    """The retrainings of `part` that judge `attribution`. Raises InputError where the two do not belong
    together.
    """
    output = attribution.output if output is None else output
    if output not in bank.outputs:
        raise InputError(
            f"output {output!r} is not recorded in the bank; it holds {', '.join(map(repr, bank.outputs))}, "
            f"pass "
            "output= one of these."
        )
    _same_study(attribution, bank)
    rows = _positions(bank.target_ids, attribution.target_ids)
    if (rows < 0).any():
        missing = [str(t) for t in attribution.target_ids[rows < 0]]
        raise InputError(
            f"attribution explains {len(missing)} targets that the bank has not recorded "
            f"({_some(missing)}); evaluate "
            "an attribution of the bank's own targets."
        )
    groups = bank.by_mask(part, output)
    outputs = np.asarray(groups.outputs)
    if len(outputs) < _FEWEST_MASKS:
        raise InputError(
            f"the bank has {len(outputs)} masks in part {part!r}, but a correlation needs at least "
            f"{_FEWEST_MASKS} (100 for a useful interval); retrain more."
        )
    outputs = outputs[:, :, rows]
    if outputs.ndim - 2 != len(attribution.shape) - 1 or outputs.shape[2:] != attribution.shape[:-1]:
        raise InputError(
            f"attribution predicts outputs of shape {attribution.shape[:-1]}, but the bank's {output!r} has "
            f"shape {outputs.shape[2:]}."
        )
    if not np.isfinite(outputs).all():
        raise InputError(
            f"the bank's {output!r} in part {part!r} has non-finite values; run `whence bank verify`."
        )
    return Heldout(np.asarray(groups.masks, dtype=bool), outputs, attribution.target_ids, output, part)


def predictions(attribution: Attribution, bank: Bank, held: Heldout) -> np.ndarray:
    """Predicted outputs ``(g, t[, c])`` for the masks of `held`; the attribution may hold train ids in
    another order.
    """
    order = _positions(bank.train_ids, attribution.train_ids)
    return np.asarray(attribution.predict(held.masks[:, order]))


def _same_study(attribution: Attribution, bank: Bank) -> None:
    made_for = attribution.provenance.get("study")
    if made_for is not None and bank.study_fingerprint is not None and made_for != bank.study_fingerprint:
        raise InputError(
            f"attribution was estimated for another study (fingerprint {str(made_for)[:12]}, the bank has "
            f"{str(bank.study_fingerprint)[:12]}); evaluate it on a bank of its own study."
        )
    order = _positions(bank.train_ids, attribution.train_ids)
    if len(order) != len(bank.train_ids) or (order < 0).any():
        unknown = [str(t) for t in attribution.train_ids[order < 0]]
        detail = (
            f"unknown to the bank: {_some(unknown)}" if unknown else "every id of the bank must have a weight"
        )
        raise InputError(
            f"attribution weighs {len(order)} training examples, but the bank was trained on subsets of "
            f"{len(bank.train_ids)} ({detail}); evaluate it on a bank of its own study."
        )


def _positions(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = {identity: i for i, identity in enumerate(np.asarray(known).tolist())}
    return np.array([at.get(identity, -1) for identity in np.asarray(wanted).tolist()], dtype=np.int64)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
