"""An attribution beside those of two halves of its retrainings: how much of it would come out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.learning_curve import WithoutRows

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.evaluate.learning_curve import Fits

FEWEST = 8  # retrainings that can be halved at all; what a method needs beyond that it says itself


@dataclass(frozen=True)
class Halves:
    """An attribution, and pairs of attributions each of which comes from one half of its retrainings.

    The two of a pair share no retraining, so that what differs between them is noise. Several pairs split the
    same retrainings in several ways.

    Attributes
    ----------
    whole : from all retrainings. pairs : one or more pairs from disjoint halves, of the same targets and
        training examples; in the order of `whole`, whatever order they were given in.

    Raises
    ------
    InputError : no pair, other ids, another output, vector outputs.
    """

    whole: Attribution = field(repr=False)
    pairs: Sequence[tuple[Attribution, Attribution]] = field(repr=False)

    def __post_init__(self) -> None:
        pairs = [tuple(pair) for pair in self.pairs]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise InputError(
                f"pairs has {len(pairs)} entries, but it must hold one or more pairs of attributions from "
                "disjoint halves of the retrainings; Halves.of(method, bank) makes them."
            )
        if self.whole.output_ids is not None:
            raise InputError(
                f"attribution explains a vector output ({self.whole.output}); recipes are compared by a "
                "scalar one such as margin."
            )
        for pair in pairs:
            for half in pair:
                check_alike(half, self.whole, "a half", "the whole")
        object.__setattr__(self, "pairs", tuple(pairs))

    @classmethod
    def of(
        cls, method: Fits, bank: Bank, output: str | None = None, *, splits: int = 5, seed: int = 0
    ) -> Halves:
        """Fit `method` to all retrainings of `bank`, and to both halves of each of `splits` random splits.

        Parameters
        ----------
        method : anything with ``attribute(bank, output)``. A gradient method reads no bank: attribute with
            each half of its checkpoints, and make ``Halves(whole, pairs)`` of that.
        output : which output (default: the first recorded).
        splits : 2 * splits + 1 fits are made.

        Raises
        ------
        InputError : too few retrainings to be halved, or for `method` to be fitted to half of them.
        """
        if splits < 1:
            raise InputError(f"splits is {splits}, but at least one split into halves is needed.")
        output = bank.outputs[0] if output is None else output
        parts = [bank.select(part, output) for part in ("train", "validation")]
        count = sum(map(len, parts))
        if count < FEWEST:
            raise InputError(
                f"{bank!r} has {count} retrainings to fit to, too few to split into halves; retrain "
                f"{FEWEST} or more, hundreds would do."
            )
        rng = np.random.default_rng(seed)
        pairs: list[tuple[Attribution, Attribution]] = []
        for _ in range(splits):
            first = np.concatenate([_half(sample, rng) for sample in parts])
            second = np.concatenate([sample.rows[~np.isin(sample.rows, first)] for sample in parts])
            halves = [_fit(method, bank, absent, output, count) for absent in (second, first)]
            pairs.append((halves[0], halves[1]))
        return cls(method.attribute(bank, output), pairs)


def _half(sample: Any, rng: np.random.Generator) -> np.ndarray:
    """Rows of half of the masks: retrainings on one mask stay together."""
    masks = np.unique(sample.mask_index)
    chosen = rng.permutation(masks)[: len(masks) // 2]
    return sample.rows[np.isin(sample.mask_index, chosen)]


def _fit(method: Fits, bank: Bank, absent: np.ndarray, output: str, count: int) -> Attribution:
    try:
        return method.attribute(WithoutRows(bank, absent), output)
    except InputError as problem:
        raise InputError(
            f"half of the {count} retrainings of {bank.path} is too few for the comparison of a recipe with "
            f"itself; retrain more: {problem}"
        ) from None


def check_alike(one: Attribution, other: Attribution, name: str, reference: str) -> None:
    """That two attributions explain one scalar output of the same targets by the same training examples."""
    if one.output_ids is not None or one.output != other.output:
        raise InputError(
            f"{name} explains {one.output!r}{' as a vector' if one.output_ids is not None else ''}, "
            f"{reference} {other.output!r}; use the same scalar output for both."
        )
    for side, words in (("target_ids", "targets"), ("train_ids", "training examples")):
        mine, theirs = set(getattr(one, side).tolist()), set(getattr(other, side).tolist())
        if mine != theirs:
            odd = min(map(str, mine ^ theirs))
            raise InputError(
                f"{name} and {reference} are of different {words} ({len(mine)} and {len(theirs)}; only one "
                f"has {odd!r}); recipes are compared on the same ones."
            )


def weights_in_order(one: Attribution, reference: Attribution) -> np.ndarray:
    """Weights ``(t, n)`` in the order of `reference`, float64, positive where an example helps."""
    rows, columns = one.target_index(reference.target_ids), one.train_index(reference.train_ids)
    sign = -1.0 if one.lower_is_better else 1.0
    return sign * one.weight[np.ix_(rows, columns)].astype(np.float64)
