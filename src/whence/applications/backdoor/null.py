"""Whether a group is too strong to be one of the many that any data hold: p-values.

Any data have coherent groups: styles of a digit, near-duplicates, and in noise the luckiest set. What a
planted group has to beat is therefore not zero but the strongest natural group, and the natural groups of the
same data, one or more from each class, tell how strong those get. Two nulls, each enough to say "nothing":

**Natural groups** (`natural`). The logarithms of the separations of the strongest groups are taken to have an
exponential tail: then the spacings between the ordered values, i (t_i - t_{i+1}), are independent exponentials
of one mean (Renyi 1953), and the gap above the ordinary ones over the mean spacing below it has an F
distribution. An exponential tail of logarithms is a Pareto tail of separations; lighter tails, such as those of
maxima of normal noise, make the test err on the cautious side. Up to `MOST` groups may stand out together.

**Estimation error** (`reproduced`). The group is searched for in one half of the retrainings and scored in
the other. Masks of different examples are drawn independently, so under no effect the columns of the other
half's weights are independent, however much the outputs of the targets move together; the members' columns are
held against the class's other columns. A natural group passes this test as well, and should: it is real.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from whence.applications.backdoor.candidates import candidate
from whence.evaluate.result import Result
from whence.methods.difference import difference_of_means

MOST = 3  # groups that may stand out together
SPACINGS = 10  # below the gap, at most, that say how separations are spread
NARROWEST = (
    0.03  # mean spacing of logarithms taken at least: groups within a few percent are not told apart
)


def natural(separation: Sequence[float] | np.ndarray, most: int = MOST) -> np.ndarray:
    """``(m,)`` p-value of each group: that some group of natural data stands so far above the others.

    For the j strongest to stand out, with the rest natural, the gap between number j and j + 1 is tested; of
    j = 1, ..., `most` the smallest p counts, times `most` (Bonferroni). A group below such a gap has p = 1.

    Parameters
    ----------
    separation : ``(m,)`` of all groups found. With fewer than 4 of them nothing can be said and all p are 1.
    """
    values = np.asarray(separation, np.float64)
    order = np.argsort(-values, kind="stable")
    logs = np.log(np.maximum(values[order], 1e-12))
    p = np.ones(len(values))
    for j in range(min(most, len(values) - 3), 0, -1):
        p[order[:j]] = np.minimum(p[order[:j]], min(1.0, most * _gap(logs, j)))
    return p


def critical(separation: Sequence[float] | np.ndarray, level: float, most: int = MOST) -> float:
    """The separation that one more group would need to be found at this level, beside these natural ones."""
    logs = np.sort(np.log(np.maximum(np.asarray(separation, np.float64), 1e-12)))[::-1]
    if len(logs) < 3:
        return math.inf
    mean, count = _spacing(logs, 2)
    return float(np.exp(logs[0] + mean * count * ((level / most) ** (-1 / count) - 1)))


def _gap(logs: np.ndarray, j: int) -> float:
    """P of the gap between the j-th and the next of descending `logs`."""
    mean, count = _spacing(logs[j:], j + 1)
    # F with 2 and 2 count degrees of freedom has this tail in closed form
    return float((1 + j * (logs[j - 1] - logs[j]) / (mean * count)) ** -count)


def _spacing(logs: np.ndarray, rank: int) -> tuple[float, int]:
    """Mean normalised spacing of the upper half of descending `logs`, the first of which has this rank, and
    how many went into it."""
    count = min(SPACINGS, max(2, len(logs) // 2), len(logs) - 1)
    spacings = np.arange(rank, rank + count) * -np.diff(logs[: count + 1])
    return max(float(spacings.mean()), NARROWEST), count


@dataclass(frozen=True)
class Reproduced(Result):
    """Groups found in either half of the retrainings, scored in the other.

    p_value : of no effect at all, both halves together (twice the smaller). effect : d as the other half has
    it, mean of both, free of the luck of having been chosen; interval : 95 %. overlap : share of the members
    found in one half that were also found in the other (of the smaller set).
    """

    p_value: float
    effect: float
    interval: tuple[float, float]
    overlap: float
    retrainings: int


def reproduced(
    masks: np.ndarray, outputs: np.ndarray, groups: np.ndarray, restarts: int, seed: int
) -> Reproduced | None:
    """Find the strongest group of a class in one half of the retrainings, score it in the other.

    Parameters
    ----------
    masks, outputs : ``(k, m)`` of the class's examples, and their own outputs (positive helps).
    groups : ``(k,)`` rows with one number (seeds of one mask) go to the same half.

    None where a half has no group to offer.
    """
    names = np.unique(groups)
    first = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    halves = [np.isin(groups, first), ~np.isin(groups, first)]
    weights = [difference_of_means(masks[half], outputs[half]).weight for half in halves]
    pool = np.arange(masks.shape[1])
    found = [candidate(w, pool, None, restarts, seed) for w in weights]
    if found[0] is None or found[1] is None:
        return None
    scored = [_columns(w, one.members) for w, one in zip(weights[::-1], found, strict=True) if one]
    effect = float(np.mean([gap for gap, _ in scored]))
    # The two share no retraining, but the groups may be the same, so errors are not taken to average out.
    error = max(error for _, error in scored)
    p = min(1.0, 2 * min(1 - NormalDist().cdf(gap / error) for gap, error in scored))
    shared = len(np.intersect1d(found[0].members, found[1].members))
    return Reproduced(
        p_value=p,
        effect=effect,
        interval=(effect - 1.96 * error, effect + 1.96 * error),
        overlap=shared / min(found[0].size, found[1].size),
        retrainings=len(masks),
    )


def _columns(weight: np.ndarray, members: np.ndarray) -> tuple[float, float]:
    """How much more the members' columns do for the members than the other columns, and its error."""
    inside = np.zeros(len(weight), bool)
    inside[members] = True
    rows = weight[members]
    total, count = rows.sum(0), np.full(len(weight), len(members), np.float64)
    total[members] -= np.diag(weight)[members]
    count[members] -= 1
    column = total / count
    spread = column[~inside].var(ddof=1)
    error = math.sqrt(spread * (1 / inside.sum() + 1 / (~inside).sum()))
    return float(column[inside].mean() - column[~inside].mean()), max(error, 1e-300)
