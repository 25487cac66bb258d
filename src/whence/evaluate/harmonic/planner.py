"""How many retrainings until a given LDS? From the variance split, and from the learning curve so far.

Masks of independent coins are isotropic: no direction of the weights is easier to learn than another. So what
ridge regression at its best penalty still misses of the linear part after K retrainings depends on nothing
but K, the number M of examples and the linear share a of one retraining's variance. The missed fraction t
solves

    t = 1 / (1 + (K / M) a / (1 - a + a t))

(Dobriban & Wager 2018 for the limit; Dicker 2016), and the correlation with what is to be predicted is the
ceiling times ``sqrt(1 - t)``. For ridge M is the number of examples. Sparse weights let LASSO do with less, a
method with a worse penalty needs more: a learning curve tells the M of a method on a study.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whence.errors import InputError
from whence.evaluate.ceiling import convert
from whence.evaluate.correlation import Rank
from whence.evaluate.harmonic.split import Share, VarianceSplit
from whence.evaluate.learning_curve import LearningCurve
from whence.evaluate.result import Result, with_interval

_DRAWS = 1000
_GRID = np.exp(np.linspace(math.log(1 / 50), math.log(50), 801))  # of M, in numbers of examples


@dataclass(frozen=True)
class ModelsNeeded(Result):
    """How many retrainings a linear datamodel needs for an LDS.

    Attributes
    ----------
    lds : what is wanted. ceiling : the best that any linear datamodel reaches, with its interval.
    models : retrainings to fit to in all (train and validation parts); None where `lds` is above the ceiling.
    more : how many of them are still to be made.
    interval : 95 % interval of `models`; an end is infinite where the ceiling may be below `lds`.
    effective_examples : the M of the curve, `n` for ridge.
    lds_of_doubling : expected LDS with twice the retrainings of the curve's end; None without a curve.
    """

    lds: float
    models: int | None
    more: int | None
    interval: tuple[float, float] | None
    ceiling: Share
    effective_examples: float
    lds_of_doubling: float | None
    have: int
    n: int
    method: str

    @property
    def answer(self) -> str:
        """The answer in words."""
        if self.models is None:
            return (
                f"No number of retrainings will do: LDS {self.lds:.3f} is above the ceiling of linear "
                f"datamodels, "
                f"{self.ceiling}. Judge by more seeds a mask, or train with less noise."
            )
        assert self.interval is not None and self.more is not None
        low, high = (f"{end:,.0f}" if math.isfinite(end) else "no number" for end in self.interval)
        enough = "no more are needed" if self.more == 0 else f"{self.more:,} more"
        doubt = "; it may be above the ceiling" if math.isinf(self.interval[1]) else ""
        return f"LDS {self.lds:.3f} takes about {self.models:,} retrainings [{low}, {high}], {enough}{doubt}."

    def __str__(self) -> str:
        double = (
            ""
            if self.lds_of_doubling is None
            else f"; twice as many as now would give {self.lds_of_doubling:.3f}"
        )
        return (
            f"{self.answer}\n{self.method}, {self.have:,} retrainings so far, n={self.n:,}; linear ceiling "
            f"{with_interval(self.ceiling.value, self.ceiling.interval)}{double}"
        )


def models_needed(
    split: VarianceSplit,
    lds: float,
    curve: LearningCurve | None = None,
    seeds: int | None = None,
    rank: Rank = "spearman",
    seed: int = 0,
) -> ModelsNeeded:
    """How many retrainings until a linear datamodel reaches an LDS.

    Parameters
    ----------
    split : of a bank of the same study, keep and output.
    lds : the LDS wanted, in (0, 1).
    curve : learning curve so far; its method's M is fitted to it. Without one, ridge regression with M = n.
    seeds, rank : how the LDS is judged; the curve says it itself.
    seed : of the draws for the interval.

    Notes
    -----
    The interval redraws the ceiling, the linear share and the points of the curve. Points share their judges,
    so half of the variance of each is drawn in common. It does not cover that the form of the curve may be
    wrong; see how well `expected_lds` met the points that are known.

    Raises
    ------
    InputError : `lds` outside (0, 1), or a curve of another keep or number of examples.
    """
    if not 0 < lds < 1:
        raise InputError(f"lds must lie between 0 and 1, received {lds}.")
    if curve is not None:
        last = curve.rows[-1].score
        if (last.n, last.output) != (split.n, split.output) or not math.isclose(last.keep, split.keep):
            raise InputError(
                f"curve is of {last.output} with n={last.n} and keep={last.keep:g}, but split is of "
                f"{split.output} with "
                f"n={split.n} and keep={split.keep:g}; pass two of one study and one kept fraction."
            )
        seeds, rank = last.seeds, last.rank  # type: ignore[assignment]
    ceiling = split.best_lds(seeds, rank)
    share = float(np.clip(split.linear.value, 1e-6, 1))
    rng = np.random.default_rng(seed)
    tops = np.clip(ceiling.value + ceiling.standard_error * np.r_[0, rng.standard_normal(_DRAWS)], 1e-6, 1)
    shares = np.clip(share + split.linear.standard_error * np.r_[0, rng.standard_normal(_DRAWS)], 1e-6, 1)
    if curve is None:
        examples = np.full(_DRAWS + 1, float(split.n))
    else:
        examples = _fit(curve, tops, shares, split.n, rank, rng)
    needed = _invert(lds, tops, shares, examples, rank)
    have = 0 if curve is None else curve.models[-1]
    reached = bool(np.isfinite(needed[0]))
    return ModelsNeeded(
        lds=lds,
        models=math.ceil(needed[0]) if reached else None,
        more=max(math.ceil(needed[0]) - have, 0) if reached else None,
        interval=_ends(needed[1:]) if reached else None,
        ceiling=ceiling,
        effective_examples=float(examples[0]),
        lds_of_doubling=None
        if curve is None
        else float(_curve(np.array([2 * have]), tops[:1], shares[:1], examples[:1], rank)[0, 0]),
        have=have,
        n=split.n,
        method="ridge" if curve is None else curve.method,
    )


def expected_lds(
    split: VarianceSplit,
    models: int,
    seeds: int | None = None,
    rank: Rank = "spearman",
    effective_examples: float | None = None,
) -> float:
    """The LDS to be expected of a datamodel fitted to `models` retrainings: of ridge regression, or with the
    `effective_examples` of a `ModelsNeeded`. Parameters as in `models_needed`."""
    if models < 1:
        raise InputError(f"models must be at least 1, received {models}.")
    top = np.array([split.best_lds(seeds, rank).value])
    share = np.clip([split.linear.value], 1e-6, 1)
    examples = np.array([float(split.n) if effective_examples is None else effective_examples])
    return float(_curve(np.array([models]), top, share, examples, rank)[0, 0])


def missed(ratio: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The fraction t of the linear variance that is missed with ``ratio = K / M`` retrainings an example (the
    positive root of ``a t^2 + (1 - 2 a + r a) t - (1 - a) = 0``)."""
    a = np.asarray(share, dtype=np.float64)
    b = 1 - 2 * a + ratio * a
    root = np.sqrt(b**2 + 4 * a * (1 - a))
    # whichever of the two forms does not cancel
    return np.where(b > 0, 2 * (1 - a) / np.maximum(b + root, 1e-300), (root - b) / (2 * a))


def _curve(
    models: np.ndarray, tops: np.ndarray, shares: np.ndarray, examples: np.ndarray, rank: Rank
) -> np.ndarray:
    """Expected LDS ``(draws, models)``."""
    reach = np.sqrt(1 - missed(models[None] / examples[:, None], shares[:, None]))
    return convert(_pearson(tops, rank)[:, None] * reach, rank)


def _fit(
    curve: LearningCurve, tops: np.ndarray, shares: np.ndarray, n: int, rank: Rank, rng: np.random.Generator
) -> np.ndarray:
    """M for each draw, least squares over the points; the first draw is the curve itself."""
    models, seen = np.array(curve.models, np.float64), np.array(curve.lds)
    low, high = (np.array([np.nan if v is None else v for v in ends]) for ends in (curve.low, curve.high))
    error = np.nan_to_num((high - low) / 3.92, nan=0.02)
    common, own = rng.standard_normal((_DRAWS, 1)), rng.standard_normal((_DRAWS, len(models)))
    drawn = np.vstack([seen, seen + error * (common + own) / math.sqrt(2)])
    weight = 1 / np.maximum(error, 1e-3) ** 2
    best, smallest = np.full(len(tops), float(n)), np.full(len(tops), np.inf)
    for times in _GRID:
        loss = (_curve(models, tops, shares, np.full(len(tops), n * times), rank) - drawn) ** 2 @ weight
        best = np.where(loss < smallest, n * times, best)
        smallest = np.minimum(loss, smallest)
    return best


def _invert(lds: float, tops: np.ndarray, shares: np.ndarray, examples: np.ndarray, rank: Rank) -> np.ndarray:
    """Retrainings ``(draws,)`` at which the curve meets `lds`; infinite where it never does."""
    t = 1 - (_pearson(np.array([lds]), rank)[0] / _pearson(tops, rank)) ** 2
    safe = np.maximum(t, 1e-12)
    return np.where(t > 0, examples * (1 / safe - 1) * (1 - shares + shares * safe) / shares, np.inf)


def _pearson(values: np.ndarray, rank: Rank) -> np.ndarray:
    return values if rank == "pearson" else 2 * np.sin(np.pi / 6 * values)


def _ends(needed: np.ndarray) -> tuple[float, float]:
    ordered = np.sort(needed)  # quantiles that interpolate would make infinity minus infinity
    return float(ordered[int(0.025 * len(ordered))]), float(ordered[int(0.975 * len(ordered))])
