"""The linear datamodelling score, with its interval and its noise ceiling; and the fair comparison of
several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError
from whence.evaluate.alignment import Heldout, heldout, predictions
from whence.evaluate.ceiling import by_target, ceiling_of
from whence.evaluate.correlation import Rank, Resamples, check_rank, correlations, is_constant
from whence.evaluate.result import Result, table, with_interval

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank

_FOR_A_CEILING = 4


@dataclass(frozen=True)
class LDS(Result):
    """How well an attribution orders retrainings that it never saw.

    Attributes
    ----------
    mean : mean over targets of the correlation (of kind `rank`) between predicted and observed outputs.
    interval : bootstrap 95 % interval of `mean`; masks and targets were both resampled. None with
        ``bootstrap=0``.
    ceiling, ceiling_interval : best correlation attainable by any predictor, given the noise between seeds
        (`whence.evaluate.Ceiling`); None with one seed a mask.
    of_ceiling, of_ceiling_interval : ``mean / ceiling`` and its interval (from the same resamples).
    per_target, per_target_pearson : ``(t,)`` correlations, the first of kind `rank`.
    spearman, pearson : both kinds' means over targets.
    target_ids : ``(t,)``.
    constant : number of targets whose prediction is the same for every mask; they count as correlation 0.
    n : training examples. n_masks, seeds : held-out masks, and seeds averaged for each. keep : kept fraction.
    resamples : bootstrap resamples used (fewer than asked for when masks x targets is large).
    """

    mean: float
    interval: tuple[float, float] | None
    ceiling: float | None
    ceiling_interval: tuple[float, float] | None
    of_ceiling: float | None
    of_ceiling_interval: tuple[float, float] | None
    per_target: np.ndarray
    per_target_pearson: np.ndarray
    spearman: float
    pearson: float
    target_ids: np.ndarray
    constant: int
    n: int
    n_masks: int
    seeds: int
    keep: float
    part: str
    rank: str
    method: str
    output: str
    resamples: int

    @property
    def ceiling_note(self) -> str:
        """The ceiling in words, or what it would take to know it."""
        if self.ceiling is not None:
            return f"noise ceiling {with_interval(self.ceiling, self.ceiling_interval)}"
        if self.seeds < 2:
            return (
                "noise ceiling unknown: it needs held-out masks retrained with 2 seeds or more "
                "(held_out_seeds=2)"
            )
        return f"noise ceiling unknown: it needs at least {_FOR_A_CEILING} masks"

    def __str__(self) -> str:
        other = f"Pearson {self.pearson:.3f}" if self.rank == "spearman" else f"Spearman {self.spearman:.3f}"
        share = "" if self.of_ceiling is None else f", {self.of_ceiling:.0%} of it reached"
        constant = f", {self.constant} with constant predictions count as 0" if self.constant else ""
        sample = self.part.replace("_", "-")
        bootstrap = (
            f"; 95 % intervals resample masks and targets {self.resamples:,}x" if self.resamples else ""
        )
        return (
            f"LDS {with_interval(self.mean, self.interval)} ({self.method or 'unnamed method'}, "
            f"{self.output}, "
            f"{self.rank.capitalize()}; {other}); {self.ceiling_note}{share}\n"
            f"n={self.n:,}, keep={self.keep:g}, {self.n_masks} {sample} masks x {self.seeds} "
            f"seed{'s' if self.seeds > 1 else ''}, {len(self.per_target):,} targets{constant}{bootstrap}"
        )


@dataclass(frozen=True)
class Difference(Result):
    """LDS of `first` minus LDS of `second`, with a paired interval: both see the same resampled masks and
    targets.

    `disjoint` says whether even the two separate intervals do not touch, a stricter and unpaired criterion.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float] | None
    disjoint: bool | None


@dataclass(frozen=True)
class Comparison(Result):
    """Several attributions judged on the same masks and the same targets; best first."""

    scores: dict[str, LDS]
    differences: tuple[Difference, ...]

    def difference(self, first: str, second: str) -> Difference:
        """`first` minus `second`, whichever of the two is ahead."""
        for d in self.differences:
            if (d.first, d.second) == (first, second):
                return d
            if (d.first, d.second) == (second, first):
                interval = None if d.interval is None else (-d.interval[1], -d.interval[0])
                return Difference(first, second, -d.difference, interval, d.disjoint)
        raise InputError(f"no comparison of {first!r} with {second!r}; names are {', '.join(self.scores)}.")

    def __str__(self) -> str:
        best = next(iter(self.scores))
        rows = []
        for name, score in self.scores.items():
            behind = "" if name == best else with_interval(*_pair(self.difference(name, best)))
            rows.append((name, with_interval(score.mean, score.interval), f"{score.pearson:.3f}", behind))
        score = self.scores[best]
        return (
            table(("method", f"LDS ({score.rank})", "Pearson", f"minus {best} (paired)"), rows)
            + f"\n{score.ceiling_note}; n={score.n:,}, keep={score.keep:g}, {score.n_masks} masks x "
            f"{score.seeds} seeds, "
            f"{len(score.per_target):,} targets"
        )


def lds(
    attribution: Attribution,
    bank: Bank,
    part: str = "held_out",
    output: str | None = None,
    rank: Rank = "spearman",
    bootstrap: int = 1000,
    seed: int = 0,
) -> LDS:
    """Linear datamodelling score (Park et al. 2023, section 3) on retrainings that the attribution never saw.

    For each target, the correlation over held-out masks between ``attribution.predict(mask)`` and the output
    of models trained on the mask, averaged over the seeds of the mask; then the mean over targets. Ties share
    average ranks. A target with a constant prediction (for example all weights zero) counts as 0. For vector
    outputs, correlations are averaged over the outputs of a target. Sign and order matter, scale and bias do
    not.

    The interval is a bootstrap (percentiles about the estimate) that resamples **masks and targets**
    independently. Held-out masks are the scarce resource: 100 of them leave about +-0.1 on a single target's
    correlation whatever the number of targets. It does not cover the draw of the retrainings that the
    attribution was *fitted* to.

    Parameters
    ----------
    attribution : weights (target, train) for all training examples and some or all targets of the bank.
    bank : retrainings of the same study.
    part : "held_out" is the honest one; "validation" was used to choose penalties, "train" to fit.
    output : which recorded output to predict; default the one that the attribution explains.
    rank : "spearman" (the usual LDS) or "pearson".
    bootstrap : resamples for the intervals; 0 for none. Fewer are drawn when masks x targets is large.
    seed : of the bootstrap.

    Raises
    ------
    InputError : another study, unknown targets, an output not recorded, fewer than 3 masks in `part`.
    """
    return compare({"": attribution}, bank, part, output, rank, bootstrap, seed).scores[""]


def compare(
    attributions: Mapping[str, Attribution],
    bank: Bank,
    part: str = "held_out",
    output: str | None = None,
    rank: Rank = "spearman",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """LDS of several attributions on the same masks and targets, and paired differences of all pairs.

    All of them must explain the same targets (in any order). Parameters as in `lds`. A paired interval that
    excludes 0 is the right evidence that one is better; separate intervals that are disjoint are more than is
    needed.
    """
    check_rank(rank)
    if not attributions:
        raise InputError("attributions is empty; pass at least one as {name: attribution}.")
    helds = {name: heldout(a, bank, part, output) for name, a in attributions.items()}
    first = next(iter(helds.values()))
    wanted = set(first.target_ids.tolist())
    for name, held in helds.items():
        if set(held.target_ids.tolist()) != wanted:
            raise InputError(
                f"attributions[{name!r}] explains other targets than the first ({held.targets} against "
                f"{first.targets}); "
                "a comparison needs the same targets."
            )
    resamples = Resamples(len(first.masks), first.targets, bootstrap, seed)
    scores: dict[str, LDS] = {}
    draws: dict[str, np.ndarray] = {}
    ceilings = _ceiling(first, resamples, rank)
    for name, attribution in attributions.items():
        scores[name], draws[name] = _score(attribution, bank, helds[name], first, resamples, rank, ceilings)
    ranked = sorted(scores, key=lambda name: -scores[name].mean)
    differences = tuple(
        _difference(a, b, scores, draws, resamples) for i, a in enumerate(ranked) for b in ranked[i + 1 :]
    )
    return Comparison({name: scores[name] for name in ranked}, differences)


def _ceiling(
    held: Heldout, resamples: Resamples, rank: Rank
) -> tuple[float | None, tuple[float, float] | None, np.ndarray]:
    if held.seeds < 2 or len(held.masks) < _FOR_A_CEILING:
        return None, None, np.zeros(0)
    found, draws = ceiling_of(held.columns(held.outputs.astype(np.float64)), held.targets, resamples, rank)
    return found.ceiling, found.interval, draws


def _score(
    attribution: Attribution,
    bank: Bank,
    held: Heldout,
    first: Heldout,
    resamples: Resamples,
    rank: Rank,
    ceilings: tuple[float | None, tuple[float, float] | None, np.ndarray],
) -> tuple[LDS, np.ndarray]:
    at = {identity: i for i, identity in enumerate(held.target_ids.tolist())}
    order = [at[identity] for identity in first.target_ids.tolist()]
    predicted = held.columns(predictions(attribution, bank, held)[:, order])
    observed = first.columns(first.means)
    both = {
        kind: by_target(correlations(predicted, observed, kind)[None], held.targets)[0]
        for kind in ("spearman", "pearson")
    }
    mean = float(both[rank].mean())
    draws = np.zeros(0)
    if resamples.times:
        draws = resamples.mean_over_targets(
            by_target(resamples.correlations(predicted, observed, rank), held.targets)
        )
    ceiling, ceiling_interval, ceiling_draws = ceilings
    of_ceiling = of_ceiling_interval = None
    if ceiling:
        of_ceiling = mean / ceiling
        if resamples.times:
            of_ceiling_interval = resamples.interval(draws / np.maximum(ceiling_draws, 1e-3), of_ceiling)
    constant = is_constant(predicted).reshape(held.targets, -1).all(axis=1).sum()
    score = LDS(
        mean=mean,
        interval=resamples.interval(draws, mean),
        ceiling=ceiling,
        ceiling_interval=ceiling_interval,
        of_ceiling=of_ceiling,
        of_ceiling_interval=of_ceiling_interval,
        per_target=both[rank],
        per_target_pearson=both["pearson"],
        spearman=float(both["spearman"].mean()),
        pearson=float(both["pearson"].mean()),
        target_ids=first.target_ids,
        constant=int(constant),
        n=int(first.masks.shape[1]),
        n_masks=len(first.masks),
        seeds=first.seeds,
        keep=float(bank.plan.subsets.keep),
        part=first.part,
        rank=rank,
        method=attribution.method,
        output=first.output,
        resamples=resamples.times,
    )
    return score, draws


def _difference(
    a: str, b: str, scores: dict[str, LDS], draws: dict[str, np.ndarray], resamples: Resamples
) -> Difference:
    mine, other = scores[a], scores[b]
    difference = mine.mean - other.mean
    interval = resamples.interval(draws[a] - draws[b], difference)
    disjoint = None
    if mine.interval is not None and other.interval is not None:
        disjoint = mine.interval[0] > other.interval[1] or other.interval[0] > mine.interval[1]
    return Difference(a, b, difference, interval, disjoint)


def _pair(difference: Difference) -> tuple[float, tuple[float, float] | None]:
    return difference.difference, difference.interval
