"""What a bank says of each training example without and with it: free out-of-fold predictions.

Every retraining on a subset leaves examples out. In a bank whose targets are the training examples
(`whence.study.variants.self_targets`) the outputs for these are out-of-fold predictions, averaged over the
share 1 - keep of all retrainings; the others are in-fold ones, and the difference is memorisation (Feldman
and Zhang 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from whence.errors import InputError
from whence.study.outputs import margin

if TYPE_CHECKING:
    from whence.bank import Bank


@dataclass(frozen=True, eq=False)
class Folds:
    """Averages over the retrainings that left an example out, and over those that trained on it.

    Attributes
    ----------
    out_margin, in_margin : (n,) mean margin ``log(p / (1 - p))`` of the given label, in nats.
    out_chance, in_chance : (n,) mean probability p of the given label.
    probabilities : (n, classes) mean out-of-fold probabilities; None where the bank recorded no logits.
    left_out, trained_on : (n,) numbers of retrainings.
    train_ids : (n,) the order of all these.
    """

    out_margin: np.ndarray = field(repr=False)
    in_margin: np.ndarray = field(repr=False)
    out_chance: np.ndarray = field(repr=False)
    in_chance: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(repr=False)
    left_out: np.ndarray = field(repr=False)
    trained_on: np.ndarray = field(repr=False)
    train_ids: np.ndarray = field(repr=False)


def folds(bank: Bank) -> Folds:
    """Out-of-fold and in-fold averages from all committed retrainings of a bank.

    The bank is read block by block. It must record "logits" (which give class probabilities too) or "margin".

    Raises
    ------
    InputError : targets that are not the training examples, neither output, an example that no retraining
        left out or none trained on.
    """
    if bank.train_labels is None or set(bank.target_ids.tolist()) != set(bank.train_ids.tolist()):
        raise InputError(
            f"the bank's {len(bank.target_ids)} targets are not its {bank.n} labelled training examples; "
            "retrain whence.study.variants.self_targets(study)."
        )
    output = next((name for name in ("logits", "margin") if name in bank.outputs), None)
    if output is None:
        raise InputError(
            f"the bank records {', '.join(bank.outputs)}; out-of-fold predictions are read from 'logits' or "
            "'margin', see whence.study.variants.with_outputs."
        )
    row_of = {identity: row for row, identity in enumerate(bank.target_ids.tolist())}
    rows = np.array([row_of[identity] for identity in bank.train_ids.tolist()])
    labels = torch.tensor(bank.train_labels)
    counts = np.zeros((2, bank.n), np.int64)  # left out, trained on
    margins, chances = np.zeros((2, bank.n)), np.zeros((2, bank.n))
    total: np.ndarray | None = None
    for block in bank.committed_blocks():
        chosen = list(range(*bank.rows_of(block)))
        masks = bank.masks(rows=chosen)
        outputs = torch.as_tensor(bank.outputs_of(output, rows=chosen)[:, rows])
        if output == "logits":
            shares = torch.softmax(outputs, -1).numpy()
            total = np.zeros(shares.shape[1:]) if total is None else total
            total += np.einsum("mn,mnc->nc", ~masks, shares, dtype=np.float64)
            outputs = margin(outputs, labels)
        chance = torch.sigmoid(outputs).numpy()
        for side, inside in enumerate((~masks, masks)):
            counts[side] += inside.sum(0)
            margins[side] += np.where(inside, outputs.numpy(), 0.0).sum(0, dtype=np.float64)
            chances[side] += np.where(inside, chance, 0.0).sum(0, dtype=np.float64)
    for side, words in enumerate(("left out of", "trained on in")):
        never = int((counts[side] == 0).sum())
        if never:
            raise InputError(
                f"{never} of {bank.n} training examples were {words} none of the bank's "
                f"{bank.rows_committed} retrainings; add retrainings, or keep about half in each."
            )
    return Folds(
        out_margin=margins[0] / counts[0],
        in_margin=margins[1] / counts[1],
        out_chance=chances[0] / counts[0],
        in_chance=chances[1] / counts[1],
        probabilities=None if total is None else total / counts[0][:, None],
        left_out=counts[0],
        trained_on=counts[1],
        train_ids=bank.train_ids,
    )
