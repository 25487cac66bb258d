"""How many retrainings it takes to see a group of a given size, and what could have been seen with those at
hand.

p examples, each kept with probability a, that together raise a member's output by D have weights of about
D / p on each other. A weight from K retrainings has a standard error of about sd f / sqrt(K a (1 - a)), sd f
the spread of the output over retrainings (difference of means). The p x p block stands out by

    d sqrt(p) / sigma = (D / sd f) sqrt(K a (1 - a) / p),

and searches find it where that is 4 to 5, so that K = 64 p (sd f / D)^2 does at a = 1/2 and a ratio of 4.
That is what noise asks for. To be called stronger than its like a group also has to beat the natural groups
of the data, which more retrainings bring out as well; `Backdoor.detectable` says what that takes.
"""

from __future__ import annotations

import math

from whence.errors import InputError

RATIO = 5.0  # d sqrt(p) / sigma from which on searches find most of a block in noise


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
