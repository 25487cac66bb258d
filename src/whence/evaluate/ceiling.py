"""The noise ceiling: how well the outputs of held-out retrainings can be predicted by anything at all.

Two retrainings on the same subset differ by their seeds. Write the output for target t, mask g, seed r as
``f[g] + e[g, r]``, where f is the expected output given the mask. A prediction of the mean over R seeds
cannot correlate with it better than f itself does, which is ``sqrt(reliability)`` with

    reliability = var(f) / (var(f) + var(e) / R)

the one-way intraclass correlation ICC(1, R) (Shrout & Fleiss 1979). This bounds every predictor, not only
linear ones: a datamodel that stays below the ceiling may be short of retrainings, or the outputs may not be
additive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.correlation import (
    Rank,
    Resamples,
    check_rank,
    correlations,
    is_constant,
    percentile_interval,
)
from whence.evaluate.result import Result, with_interval

# The correction of the bias needs the mean of an F statistic's inverse, which exists from 4 masks on.
_FEWEST_MASKS = 4


@dataclass(frozen=True)
class Ceiling(Result):
    """The best attainable correlation with the mean output over `seeds` retrainings of a mask.

    Attributes
    ----------
    ceiling : mean over targets of the best attainable correlation (of kind `rank`).
    interval : bootstrap 95 % interval, masks and targets resampled; None with ``bootstrap=0``.
    reliability : mean over targets of the share of the variance, over masks, of seed-averaged outputs that
        seeds do not explain; not clipped per target.
    single_seed_reliability : the same for one retraining a mask, mean over targets.
    direct : the ceiling from correlating one seed's outputs with another's (same masks), stepped up to
        `seeds` by Spearman-Brown. With ``rank="spearman"`` it rests on ranks throughout, so a gap between it
        and `ceiling` says that the outputs are skewed or heavy-tailed.
    reliability_per_target : ``(t,)`` unclipped estimates; single ones are noisy and may be negative.
    noise_variance : ``(t,)`` variance between seeds of one mask, one retraining, squared output units.
    masks, seeds : how many masks, and how many seeds each, the estimate rests on.
    """

    ceiling: float
    interval: tuple[float, float] | None
    reliability: float
    single_seed_reliability: float
    direct: float
    reliability_per_target: np.ndarray
    noise_variance: np.ndarray
    masks: int
    seeds: int
    rank: str

    def __str__(self) -> str:
        return (
            f"noise ceiling {with_interval(self.ceiling, self.interval)} ({self.rank}; {self.masks} masks x "
            f"{self.seeds} seeds, {len(self.reliability_per_target)} targets)\n"
            f"reliability of the {self.seeds}-seed mean {self.reliability:.3f}, of one retraining "
            f"{self.single_seed_reliability:.3f}; ceiling by correlating seeds directly {self.direct:.3f}"
        )


def noise_ceiling(outputs: Any, rank: Rank = "spearman", bootstrap: int = 1000, seed: int = 0) -> Ceiling:
    """Estimate the noise ceiling from repeated seeds.

    Parameters
    ----------
    outputs : (masks, seeds, targets), at least 4 masks and 2 seeds; a trailing output dimension (logits) may
        follow.
    rank : "spearman" or "pearson": the correlation that the ceiling is for.
    bootstrap : resamples for the interval, 0 for none.

    Notes
    -----
    *Bias.* Each target's reliability is estimated without bias (the inverse F statistic is corrected for its
    degrees of freedom), so it can come out negative; clipping each at zero would raise the mean. Only the
    mean over targets is clipped. The mean of square roots is below the root of the mean when targets differ,
    so the root is shrunk by ``1 - var / (8 mean^2)`` (second order), with the true variance between targets
    estimated as the covariance of estimates from disjoint halves of the masks. What remains is a slight
    upward bias when many targets have almost no signal: a ceiling errs on the high side.

    *Spearman.* Reliability is a statement about Pearson correlation. The Spearman ceiling is converted by
    ``(6 / pi) asin(rho / 2)``, exact for jointly normal outputs; for margins the difference is under 0.02,
    but for skewed outputs (probabilities near 0 or 1) trust `direct` more.
    """
    check_rank(rank)
    outputs = np.asarray(outputs, dtype=np.float64)
    if outputs.ndim not in (3, 4):
        raise InputError(
            f"outputs has shape {outputs.shape}, but it must be (masks, seeds, targets[, outputs])."
        )
    masks, seeds = outputs.shape[:2]
    if seeds < 2 or masks < _FEWEST_MASKS:
        raise InputError(
            f"outputs holds {masks} masks x {seeds} seeds, but a noise ceiling needs at least "
            f"{_FEWEST_MASKS} "
            "masks with 2 seeds each; retrain held-out masks with held_out_seeds=2 or more."
        )
    if not np.isfinite(outputs).all():
        raise InputError("outputs holds non-finite values; leave out the masks of diverged retrainings.")
    targets = outputs.shape[2]
    resamples = Resamples(masks, targets, bootstrap, seed)
    columns = outputs.reshape(masks, seeds, -1)
    return ceiling_of(columns, targets, resamples, rank)[0]


def ceiling_of(
    columns: np.ndarray, targets: int, resamples: Resamples, rank: Rank
) -> tuple[Ceiling, np.ndarray]:
    """The ceiling and its bootstrap draws ``(times,)``, from ``(masks, seeds, columns)``, columns grouped by
    target.
    """
    masks, seeds = columns.shape[:2]
    means, within = columns.mean(1), columns.var(1, ddof=1)
    per_column = _reliability(np.ones((1, masks)), means, within, seeds)[0]
    reliability = float(per_column.mean())
    shrink = _root_shrinkage(means, within, seeds, reliability)

    def attainable(mean_reliability: np.ndarray) -> np.ndarray:
        return convert(shrink * np.sqrt(np.clip(mean_reliability, 0, 1)), rank)

    draws = np.zeros(resamples.times)
    if resamples.times:
        resampled = _reliability(resamples.masks, means, within, seeds, masks / (masks - 1))
        means_drawn = resamples.mean_over_targets(by_target(resampled, targets))
        draws = attainable(means_drawn - means_drawn.mean() + reliability)
    # ICC(1, 1) = (F - 1) / (F - 1 + seeds), with 1 / F = 1 - reliability: bounded, so safe to average over
    # targets.
    single = float((per_column / (per_column + seeds * (1 - per_column))).mean())
    return (
        Ceiling(
            ceiling=float(attainable(np.array(reliability))),
            interval=percentile_interval(draws) if resamples.times else None,
            reliability=reliability,
            single_seed_reliability=single,
            direct=_direct(columns, shrink * np.sqrt(np.clip(reliability, 0, 1)), single, rank),
            reliability_per_target=by_target(per_column[None], targets)[0],
            noise_variance=by_target(within.mean(0)[None], targets)[0],
            masks=masks,
            seeds=seeds,
            rank=rank,
        ),
        draws,
    )


def by_target(values: np.ndarray, targets: int) -> np.ndarray:
    """``(k, columns)`` to ``(k, targets)``: the outputs of one target are averaged."""
    return values.reshape(len(values), targets, -1).mean(axis=2)


def convert(pearson: np.ndarray, rank: Rank) -> np.ndarray:
    """A Pearson correlation as the asked-for kind, under joint normality."""
    return pearson if rank == "pearson" else 6 / np.pi * np.arcsin(pearson / 2)


def _reliability(
    counts: np.ndarray, means: np.ndarray, within: np.ndarray, seeds: int, inflate: float = 1.0
) -> np.ndarray:
    """Reliability ``(k, columns)`` when mask g counts ``counts[k, g]`` times.

    `inflate` undoes the shrinkage of the between-mask variance that resampling with replacement brings.
    """
    g = counts.shape[1]
    centred = means - means.mean(0)  # keeps the one-pass variance below from cancelling
    first, second = counts @ centred / g, counts @ centred**2 / g
    between = (second - first**2) * g / (g - 1) * inflate
    noise = counts @ within / g / seeds
    # An output that never varies can be correlated with nothing: no signal, whatever rounding leaves of the
    # variances.
    varies = (between > 0) & ~is_constant(means)
    # E[1 / F] = d / (d - 2) with d = g - 1 degrees of freedom above: without this factor reliability is too
    # low.
    ratio = (g - 3) / (g - 1) * np.divide(noise, between, out=np.ones_like(noise), where=varies)
    return np.where(varies, 1 - ratio, 0.0)


def _root_shrinkage(
    means: np.ndarray, within: np.ndarray, seeds: int, mean: float, splits: int = 20
) -> float:
    """mean(sqrt(reliability)) / sqrt(mean(reliability)) over targets, to second order; 1 where it cannot be
    told.
    """
    g, width = means.shape
    if g < 2 * _FEWEST_MASKS or width < 2 or mean <= 0:
        return 1.0
    rng = np.random.default_rng(0)
    covariances = []
    for _ in range(splits):
        order = rng.permutation(g)
        halves = (order[: g // 2], order[g // 2 :])
        a, b = (_reliability(np.ones((1, len(h))), means[h], within[h], seeds)[0] for h in halves)
        covariances.append(((a - a.mean()) * (b - b.mean())).sum() / (width - 1))
    variance = float(np.clip(np.mean(covariances), 0, mean * (1 - min(mean, 1))))
    return float(np.clip(1 - variance / (8 * mean**2), 0.5, 1.0))


def _direct(columns: np.ndarray, attainable: float, single: float, rank: Rank) -> float:
    """The ceiling, had the correlation of one seed with another been as high as it is seen to be.

    `attainable` is the Pearson ceiling and `single` the single-seed reliability it goes with. The correlation
    of seeds steps up to their mean (Spearman-Brown) as the ratio to `single`, so that differences between
    targets cancel.
    """
    seeds = columns.shape[1]
    pairs = [(r, s) for r in range(seeds) for s in range(r + 1, seeds)][:45]
    seen = float(np.mean([correlations(columns[:, r], columns[:, s], rank).mean() for r, s in pairs]))
    if rank == "spearman":
        seen = float(2 * np.sin(np.pi * seen / 6))
    if seen <= 0 or single <= 0:
        return float(convert(np.sqrt(max(_step(seen, seeds), 0.0)), rank))
    square = attainable**2 * _step(seen, seeds) / _step(single, seeds)
    return float(convert(np.sqrt(min(square, 1.0)), rank))


def _step(reliability: float, factor: float) -> float:
    """Spearman-Brown: the reliability of a mean over `factor` times as many seeds."""
    below = 1 + (factor - 1) * reliability
    return factor * reliability / below if below > 0 else 0.0
