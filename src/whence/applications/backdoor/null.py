"""Whether a group is too strong to be one of the many that any data hold: p-values.

Any data have coherent groups: styles of a digit, near-duplicates, and in noise the luckiest set. What a
planted group has to beat is therefore not zero but the natural groups of the same data; one or more from each
class tell how strong those get. Two nulls, each enough to say "nothing":

**Natural groups** (`natural`). The logarithms of the strengths of natural groups (`Candidate.strength`) are
taken to be normal, and the strongest group is held against the mean and the spread of the others (Grubbs
1950: Student's t, times the number of groups). Up to three groups may stand out together; most of the level
is spent on one. A third of it is held back, for the logarithms are not quite normal: with all of it spent, 9
of 139 clean sets of MNIST and Fashion-MNIST gave a false alarm at a level of 5 %.

**Estimation error** (`reproduced`). The group is searched for in one half of the retrainings and scored in
the other. Masks of different examples are drawn independently, so under no effect the columns of the other
half's weights are independent, however much the outputs of the targets move together; the members' columns
are held against the class's other columns. A natural group passes this test as well, and should: it is real.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from whence.applications.backdoor.candidates import candidate
from whence.evaluate.intervals import student_quantile, student_tail
from whence.evaluate.result import Result
from whence.methods.difference import difference_of_means

SHARES = (0.53, 0.07, 0.07)  # of the level, for one, two, three groups that stand out
FEWEST = 5  # natural groups with which the others can be compared
NARROWEST = (
    0.2  # spread of logarithms taken at least: groups hardly stronger than their like are not told apart
)


def natural(strength: Sequence[float] | np.ndarray) -> np.ndarray:
    """``(m,)`` p-value of each group: that the strongest of as many natural groups is so strong.

    For the j strongest to stand out, number j must stand out from those below it, j = 1, 2, 3; of these p
    the smallest counts, each divided by its share of the level. A group below such a gap has p = 1.

    Parameters
    ----------
    strength : ``(m,)`` of all groups found. With fewer than 6 nothing can be said and all p are 1.
    """
    values = np.asarray(strength, np.float64)
    order = np.argsort(-values, kind="stable")
    logs = np.log(np.maximum(values[order], 1e-12))
    p = np.ones(len(values))
    for j in range(min(len(SHARES), len(values) - FEWEST), 0, -1):
        mean, spread, freedom = _rest(logs[j:])
        tail = student_tail((logs[j - 1] - mean) / spread, freedom)
        p[order[:j]] = np.minimum(p[order[:j]], tail * (len(values) - j + 1) / SHARES[j - 1])
    return p


def critical(strength: Sequence[float] | np.ndarray, level: float) -> float:
    """The strength that one more group would need to be found at this level beside these natural ones."""
    if len(strength) < FEWEST:
        return math.inf
    mean, spread, freedom = _rest(np.log(np.maximum(np.asarray(strength, np.float64), 1e-12)))
    tail = level * SHARES[0] / (len(strength) + 1)
    return math.exp(mean + spread * student_quantile(freedom, 1 - tail))


def _rest(logs: np.ndarray) -> tuple[float, float, int]:
    """Mean, spread of a further one around it, and degrees of freedom."""
    spread = max(float(logs.std(ddof=1)), NARROWEST) * math.sqrt(1 + 1 / len(logs))
    return float(logs.mean()), spread, len(logs) - 1


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
