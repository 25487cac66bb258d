"""How many retrainings it takes to see a group of a given size, and what could have been seen with those at
hand.

p examples, each kept with probability a, that together raise a member's output by D have weights of about
D / p on each other. A weight from K retrainings has a standard error of about sd f / sqrt(K a (1 - a)), sd f
the spread of the output over retrainings (difference of means). The p x p block stands out by

    d sqrt(p) / sigma = (D / sd f) sqrt(K a (1 - a) / p),

and searches find it where that is 4 to 5, so that K = 64 p (sd f / D)^2 does at a = 1/2 and a ratio of 4.
That is what noise asks for. To be called stronger than its like a group also has to beat the natural groups
of the data, which more retrainings bring out as well; `Backdoor.detectable` says what D that takes.

Whoever plants a group knows its members, and `measured_gain` tells its D from a few retrainings. A trigger
that is split among its carriers is as many groups as it has parts: one part does little for the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError
from whence.evaluate.result import Result

if TYPE_CHECKING:
    from whence.bank import Bank

FEWEST = 20  # retrainings from which a slope can be told
RATIO = 5.0  # d sqrt(p) / sigma from which on searches find most of a block in noise


@dataclass(frozen=True)
class Gain(Result):
    """What the members of a known group do for one that was left out.

    gain : D, in units of the output: what each further member that is kept adds, times all others; 0 and
    below where they do not help. interval : 95 %, over masks. spread : standard deviation of a member's
    output over retrainings. size : members. keep : share of them kept. retrainings : on which this rests.
    """

    gain: float
    interval: tuple[float, float]
    spread: float
    size: int
    keep: float
    retrainings: int

    def ratio(self, retrainings: int) -> float:
        """d sqrt(p) / sigma that so many retrainings promise of the group (`expected_ratio`)."""
        if self.gain <= 0:
            return 0.0
        return expected_ratio(self.size, self.gain, self.spread, retrainings, self.keep)


def measured_gain(
    bank: Bank, members: Sequence[int] | np.ndarray, *, retrainings: int | None = None, output: str = "margin"
) -> Gain:
    """D of a group whose members are known: the slope of a left-out member's output over the number of
    members that were kept, of all members and retrainings together, times the number of other members.

    The slope is the k-strength of Khaddaj et al. 2023 (arXiv 2307.10163), averaged over k.

    Parameters
    ----------
    bank : retrainings with the training examples as targets (`whence.study.variants.self_targets`).
    members : ``(p,)`` ids, two or more.
    retrainings : use the bank's first so many; all by default.
    output : of the bank.

    Raises
    ------
    InputError : a mask for members, members that are no targets, fewer than two; fewer than 20 retrainings; a
        vector output; a member never left out.
    """
    given = np.asarray(members)
    if given.ndim != 1 or given.dtype == bool:
        raise InputError(
            f"members must list ids, received {given.dtype} of shape {given.shape}; for a mask pass "
            "bank.train_ids[mask]."
        )
    members = list(dict.fromkeys(given.tolist()))
    places = [{name: i for i, name in enumerate(ids.tolist())} for ids in (bank.train_ids, bank.target_ids)]
    lacking = [name for name in members if any(name not in place for place in places)]
    if lacking:
        raise InputError(
            f"member {lacking[0]!r} is not both a training example and a target of the bank; retrain "
            "whence.study.variants.self_targets(study), and pass ids."
        )
    if len(members) < 2:
        raise InputError(f"members has {len(members)} ids, but a group has at least 2 members.")
    sample = bank.select(None, output)
    if sample.outputs.ndim > 2:
        raise InputError(f'output "{output}" is a vector; name a scalar one such as "margin".')
    count = len(sample) if retrainings is None else min(retrainings, len(sample))
    if count < FEWEST:
        raise InputError(f"{count} retrainings are too few to tell what a group does; use {FEWEST} or more.")
    columns, rows = ([place[name] for name in members] for place in places)
    kept = np.asarray(sample.masks[:count])[:, columns].astype(np.float64)
    outputs = np.asarray(sample.outputs[:count])[:, rows].astype(np.float64)
    out = kept == 0
    if not out.any(0).all():
        raise InputError("a member was never left out, so nothing is known about what others do for it.")
    others = kept.sum(1, keepdims=True) - kept
    # within each member, over the retrainings that left it out
    x, y = (np.where(out, part - (part * out).sum(0) / out.sum(0), 0.0) for part in (others, outputs))
    _, mask = np.unique(sample.mask_index[:count], return_inverse=True)
    moment, square = (np.bincount(mask, part.sum(1)) for part in (x * y, x * x))
    if not square.sum() > 0:
        raise InputError("all masks keep as many members, so nothing is known about what one more does.")
    slope = moment.sum() / square.sum()
    error = np.sqrt(np.square(moment - slope * square).sum()) / square.sum()
    scale = len(members) - 1
    return Gain(
        gain=float(slope * scale),
        interval=(float((slope - 1.96 * error) * scale), float((slope + 1.96 * error) * scale)),
        spread=float(outputs.std(0, ddof=1).mean()),
        size=len(members),
        keep=float(np.asarray(sample.masks[:count]).mean()),
        retrainings=count,
    )


def retrainings_needed(
    size: int, effect: float, spread: float, keep: float = 0.5, ratio: float = RATIO
) -> int:
    """Retrainings until a group of `size` examples can be found.

    Parameters
    ----------
    effect : D, what including all members does to the output of one of them, in units of the output.
    spread : standard deviation of an example's output over retrainings, in the same units.
    keep : share of the examples that each retraining sees.
    ratio : of the block's mean to its noise, d sqrt(p) / sigma; 4 is where searches begin to find blocks.
    """
    _check(size, effect, spread, keep)
    if ratio <= 0:
        raise InputError(f"ratio is {ratio:g}, but it must be above 0.")
    return math.ceil(ratio**2 * size * (spread / effect) ** 2 / (keep * (1 - keep)) - 1e-9)


def expected_ratio(size: int, effect: float, spread: float, retrainings: int, keep: float = 0.5) -> float:
    """d sqrt(p) / sigma of a group with so many retrainings; parameters as in `retrainings_needed`."""
    _check(size, effect, spread, keep)
    if retrainings < 1:
        raise InputError(f"retrainings is {retrainings}, but there must be at least 1.")
    return effect / spread * math.sqrt(retrainings * keep * (1 - keep) / size)


def _check(size: int, effect: float, spread: float, keep: float) -> None:
    if size < 2:
        raise InputError(f"size is {size}, but a group has at least 2 members.")
    for name, value in (("effect", effect), ("spread", spread)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value:g}, but it must be above 0, in units of the output.")
    if not 0 < keep < 1:
        raise InputError(f"keep is {keep:g}, but it must lie between 0 and 1.")
