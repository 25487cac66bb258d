"""How linear is a model in its data: linear, non-linear and seed variance, and the ceilings that follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.errors import InputError
from whence.evaluate.ceiling import by_target, convert
from whence.evaluate.correlation import Rank, check_rank
from whence.evaluate.harmonic.components import Components
from whence.evaluate.harmonic.overlap import overlap
from whence.evaluate.harmonic.pairs import pairs, published
from whence.evaluate.harmonic.units import gather
from whence.evaluate.result import Result, plain, with_interval
from whence.finding import Table

if TYPE_CHECKING:
    from whence.bank import Bank

Estimator = Literal["overlap", "pairs", "published"]
_ESTIMATE = {"overlap": overlap, "pairs": pairs, "published": published}
_NORMAL = 1.959964  # 95 %
# of the linear share of what the subset determines
_VERDICTS = (
    (0.9, "almost linear"),
    (0.7, "mostly linear"),
    (0.4, "only partly linear"),
    (-np.inf, "mostly non-linear"),
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Share(Result):
    """A share of variance, or a correlation, with its 95 % interval."""

    value: float
    interval: Interval

    @property
    def standard_error(self) -> float:
        return (self.interval[1] - self.interval[0]) / (2 * _NORMAL)

    def __str__(self) -> str:
        return with_interval(self.value, self.interval)


@dataclass(frozen=True)
class VarianceSplit(Result):
    """The variance of a single retraining's output, by cause.

    Attributes
    ----------
    linear : share that the best linear datamodel explains, pooled over targets (total over total).
    nonlinear : share that the subset determines and no linear datamodel explains; None without repeated
        masks.
    seed : share that differs between retrainings on one subset; None without repeated masks.
    linear_per_target, linear_standard_error : ``(t,)`` the linear share of each target; unbiased, so it may
        leave [0, 1].
    nonlinear_per_target, seed_per_target : ``(t,)``, or None without repeated masks.
    variance_per_target : ``(t,)`` variance of a single retraining's output, in `units`.
    seeds : seeds per held-out mask of the bank, for which `best_r2` and `best_lds` speak unless told
        otherwise.
    n, masks, retrainings, repeats, keep, design : what it rests on; `repeats` are retrainings beyond a mask's
        first.
    estimator : "overlap", "pairs" or "published".

    Shares refer to subsets drawn as the bank's are, of fixed size or by coins; between the two the linear
    share differs by O(1/n), and by what the size of the subset alone does. Intervals are normal, for other
    masks, seeds *and* targets of the same kind; they err on the wide side.
    """

    linear: Share
    nonlinear: Share | None
    seed: Share | None
    linear_per_target: np.ndarray
    linear_standard_error: np.ndarray
    nonlinear_per_target: np.ndarray | None
    seed_per_target: np.ndarray | None
    variance_per_target: np.ndarray
    target_ids: np.ndarray
    n: int
    masks: int
    retrainings: int
    repeats: int
    keep: float
    design: str
    seeds: int
    output: str
    units: str
    estimator: str
    components: Components = field(repr=False)

    def best_r2(self, seeds: int | None = None) -> Share:
        """The highest R2 a linear datamodel can reach on outputs averaged over `seeds` retrainings of each
        held-out mask (default: as the bank's held-out part), pooled over targets as in `prediction_error`."""
        return self._best(self._left(seeds))

    def best_lds(self, seeds: int | None = None, rank: Rank = "spearman") -> Share:
        """The highest LDS a linear datamodel can reach: the mean over targets of the root of each target's
        best R2.

        A mean of roots is below the root of the mean; it is corrected to second order by the spread between
        targets that sampling does not explain. Spearman is converted as in `noise_ceiling`, exactly for
        normal outputs.
        """
        check_rank(rank)
        left = self._left(seeds)
        judged = np.maximum(self._judged(left), 1e-300)
        columns = len(judged)
        ratio = self.components.linear / judged
        a = 1 / judged / columns
        b = -ratio * a
        rows = self.components.spread(a, b, -left * b)
        per_target = by_target(ratio[None], len(self.target_ids))[0]
        between = float(per_target.var(ddof=1)) if len(per_target) > 1 else 0.0
        noise = float(
            ((self.linear_standard_error * self._total / self._judged_per_target(left)) ** 2).mean()
        )
        mean = float(np.clip(ratio.mean(), 0, 1))
        if mean == 0:
            return Share(0.0, (0.0, 0.0))
        shrink = float(np.clip(1 - max(between - noise, 0.0) / (8 * mean**2), 0.5, 1.0))
        value = shrink * np.sqrt(mean)
        error = shrink * np.sqrt(rows + between / len(per_target)) / (2 * np.sqrt(mean))
        ends = [float(convert(np.clip(value + side * _NORMAL * error, 0, 1), rank)) for side in (-1, 1)]
        return Share(float(convert(np.asarray(value), rank)), (ends[0], ends[1]))

    @property
    def of_determined(self) -> Share | None:
        """The linear share of what the subset determines, ``linear / (linear + nonlinear)``; None without
        repeats. It is the best R2 on outputs averaged over ever more seeds."""
        return None if self.components.seed is None else self._best(1.0)

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        found = self.of_determined
        if found is None or self.seed is None:
            return (
                f"At most {max(self.linear.value, 0):.0%} of the variance of one retraining can be explained "
                "by a linear datamodel; how much of the rest is seed noise is unknown, for no mask was "
                "trained "
                "twice."
            )
        share, low, high = (min(max(value, 0), 1) for value in (found.value, *found.interval))
        how = next(words for least, words in _VERDICTS if share > least)
        noise = ""
        if self.seed.value > 0.3:
            noise = (
                f"; {self.seed.value:.0%} of what one retraining says is seed noise, which averaging removes"
            )
        return (
            f"The model is {how} in its data at keep {self.keep:g}: {share:.0%} [{low:.0%}, {high:.0%}] of "
            f"what the "
            f"subset determines is linear{noise}."
        )

    def table(self) -> Table:
        """Part, share of the variance with its interval, and the amount in `units`."""
        amount = float(self._total.mean())
        parts = (("linear", self.linear), ("non-linear", self.nonlinear), ("seed", self.seed))
        rows: list[list[Any]] = [
            [name, share.value, share.interval[0], share.interval[1], share.value * amount]
            for name, share in parts
            if share is not None
        ]
        return Table(["part", "share", "95 % low", "95 % high", self.units], rows)

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON-able values, and the ceilings for the bank's own seeds."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "components"}
        values |= {"of_determined": self.of_determined, "verdict": self.verdict}
        if self.seeds == 1 or self.seed is not None:
            values |= {"best_r2": self.best_r2(), "best_lds": self.best_lds()}
        return {name: plain(value) for name, value in values.items()}

    def __str__(self) -> str:
        split = [f"linear {self.linear}"]
        if self.nonlinear is not None and self.seed is not None:
            split += [f"non-linear {self.nonlinear}", f"seed {self.seed}"]
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        best = (
            f"best linear datamodel, judged on {seeds} a mask: R2 {self.best_r2()}, LDS {self.best_lds()}\n"
            if self.seeds == 1 or self.seed is not None
            else ""
        )
        return (
            f"{self.verdict}\n"
            f"variance of one retraining's {self.output} (mean {self._total.mean():.4g} {self.units}): "
            f"{', '.join(split)}\n"
            f"{best}"
            f"n={self.n:,}, keep={self.keep:g} ({self.design}), {self.masks:,} masks, {self.retrainings:,} "
            f"retrainings "
            f"({self.repeats:,} of them repeats), {len(self.target_ids):,} targets, estimator "
            f"{self.estimator}"
        )

    # --- inside ---

    @property
    def _total(self) -> np.ndarray:
        return self.variance_per_target

    def _left(self, seeds: int | None) -> float:
        """The share of the seed variance that averaging over `seeds` retrainings removes."""
        seeds = self.seeds if seeds is None else seeds
        if seeds < 1:
            raise InputError(f"seeds is {seeds}, but it must be at least 1.")
        if seeds > 1 and self.components.seed is None:
            raise InputError(
                f"seeds={seeds} needs the seed variance, but no mask of the bank was trained twice; retrain "
                f"with "
                "held_out_seeds=2, or ask for seeds=1."
            )
        return 1 - 1 / seeds

    def _judged(self, left: float) -> np.ndarray:
        """``(columns,)`` variance of the judged means."""
        return self.components.total - (0 if left == 0 else left * self.components.seed)  # type: ignore[operator]

    def _judged_per_target(self, left: float) -> np.ndarray:
        return by_target(self._judged(left)[None], len(self.target_ids))[0]

    def _best(self, left: float) -> Share:
        ones, zeros = np.ones_like(self.components.total), np.zeros_like(self.components.total)
        top = (ones, zeros, zeros)
        return share_of(self.components, top, self._judged(left), (0.0, 1.0, -left), len(self.target_ids))


def share_of(
    components: Components,
    top: tuple[np.ndarray, np.ndarray, np.ndarray],
    below: np.ndarray,
    per: tuple[float, float, float],
    targets: int,
) -> Share:
    """A ratio of sums over targets, ``sum(top . parts) / sum(below)`` with ``below = per . parts``, parts
    being the linear, total and seed variance. Its interval adds the variance over masks and that over
    targets."""
    seed = np.zeros_like(below) if components.seed is None else components.seed
    above = top[0] * components.linear + top[1] * components.total + top[2] * seed
    whole = max(float(below.sum()), 1e-300)
    value = float(above.sum()) / whole
    parts = [(t - value * p) / whole for t, p in zip(top, per, strict=True)]
    rows = components.spread(*parts)
    per_target = by_target((above - value * below)[None], targets)[0] / by_target(below[None], targets).mean()
    between = float(per_target.var(ddof=1)) / targets if targets > 1 else 0.0
    error = _NORMAL * float(np.sqrt(rows + between))
    return Share(value, (value - error, value + error))


def variance_split(bank: Bank, output: str | None = None, estimator: Estimator = "overlap") -> VarianceSplit:
    """Split the variance of outputs into linear, non-linear and seed parts, without fitting a datamodel.

    Any bank of random subsets will do: uniform, Bernoulli, stratified, grouped, or correlated pairs. The seed
    part needs masks with several seeds (`held_out_seeds`, 2 by default; or pairs with rho 1); all parts of
    the bank are used.

    Parameters
    ----------
    bank : retrainings; hundreds of masks for a useful interval.
    output : which recorded output; default the first.
    estimator : "overlap" (all pairs of independent masks: unbiased; standard error of one target's linear
        share about ``sqrt(2 n) / masks``), "pairs" (pairs from ``whence.Subsets.correlated(n, keep, rho=(0.3,
        0.6, 0.9, 1))``, degree 3, non-negative: about ``6 / sqrt(retrainings)``, whatever n) or "published"
        (Saunshi et al. 2023: rho = 0, r, 2r, uncentred, degree 2, non-negative).

    Raises
    ------
    InputError : leave-out sets, too few masks, an unknown output, or pairs that the estimator cannot use.
    """
    output = bank.outputs[0] if output is None else output
    if output not in bank.outputs:
        raise InputError(
            f"output {output!r} is not recorded in the bank; it holds {', '.join(map(repr, bank.outputs))}."
        )
    if estimator not in _ESTIMATE:
        raise InputError(f"estimator is {estimator!r}, but it must be one of {', '.join(_ESTIMATE)}.")
    units = gather(bank, output)
    components = _ESTIMATE[estimator](units)
    if bank.plan.training_seed is not None:  # one seed for all: nothing varies but the subset
        components = replace(components, seed=np.zeros_like(components.total))
    targets = len(bank.target_ids)
    ones, zeros = np.ones_like(components.total), np.zeros_like(components.total)
    share = {"linear": (ones, zeros, zeros), "nonlinear": (-ones, ones, -ones), "seed": (zeros, zeros, ones)}
    pooled = {
        part: share_of(components, top, components.total, (0.0, 1.0, 0.0), targets)
        for part, top in share.items()
        if part == "linear" or components.seed is not None
    }
    total = by_target(components.total[None], targets)[0]
    safe = np.maximum(total, 1e-300)
    linear = by_target(components.linear[None], targets)[0] / safe
    seed = None if components.seed is None else by_target(components.seed[None], targets)[0] / safe
    error = by_target(components.linear_variance[None], targets)[0]
    return VarianceSplit(
        linear=pooled["linear"],
        nonlinear=pooled.get("nonlinear"),
        seed=pooled.get("seed"),
        linear_per_target=linear,
        linear_standard_error=np.sqrt(error),
        nonlinear_per_target=None if seed is None else 1 - linear - seed,
        seed_per_target=seed,
        variance_per_target=total,
        target_ids=bank.target_ids,
        n=units.masks.shape[1],
        masks=len(units),
        retrainings=int(units.seeds.sum()),
        repeats=units.repeats,
        keep=float(units.subsets.keep),
        design=units.subsets.design,
        seeds=bank.plan.held_out_seeds if bank.plan.held_out > 0 else 1,
        output=output,
        units=f"{output}²",
        estimator=estimator,
        components=components,
    )
