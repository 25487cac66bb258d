"""What the section on trust shows: one row a method, and the noise ceiling they are held against."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.lds import LDS, Comparison

Interval = tuple[float, float]


@dataclass(frozen=True)
class MethodScore:
    """How well one method ranks unseen retrainings.

    Parameters
    ----------
    name : str
    lds : float
        Mean over targets of the Spearman correlation between predicted and realised outputs.
    interval : (low, high), optional
        95 % interval of the mean.
    baseline : bool
        True for random and similarity rows: what a method has to beat.
    note : str
        A few words such as "1,000 models".
    lead : (low, high), optional
        95 % interval of the studied method's LDS minus this one's, from paired resamples. It settles
        which of the two is better more sharply than their separate intervals do.
    """

    name: str
    lds: float
    interval: Interval | None = None
    baseline: bool = False
    note: str = ""
    lead: Interval | None = None


@dataclass(frozen=True)
class Scoreboard:
    """Methods judged on the same held-out retrainings.

    Parameters
    ----------
    rows : sequence of MethodScore
    main : str
        Name of the row that the report is about.
    ceiling : float, optional
        LDS that a perfect predictor of the expected output would reach, given the noise of the seeds.
    ceiling_interval : (low, high), optional
    per_target : array (targets,), optional
        Spearman correlation of each target under the main method.
    target_ids : array (targets,), optional
        Whose correlations those are.
    models, masks, seeds : int, optional
        Retrainings fitted on; held-out masks judged on; training seeds averaged for each of those masks.
    keep : float, optional
        Share of the training set in each subset.
    constant : int
        Targets for which the main method predicts the same whatever the subset; they count as 0.
    """

    rows: Sequence[MethodScore]
    main: str
    ceiling: float | None = None
    ceiling_interval: Interval | None = None
    per_target: np.ndarray | None = None
    target_ids: np.ndarray | None = None
    models: int | None = None
    masks: int | None = None
    seeds: int | None = None
    keep: float | None = None
    constant: int = 0

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if self.main not in names:
            raise InputError(
                f"`main` is {self.main!r}; it must be one of the rows: {', '.join(map(repr, names))}."
            )

    @classmethod
    def of(
        cls,
        results: Comparison | LDS | Mapping[str, LDS],
        *,
        main: str | None = None,
        baselines: Collection[str] | None = None,
        models: int | None = None,
    ) -> Scoreboard:
        """From what `whence.evaluate` returns.

        Parameters
        ----------
        results : a Comparison, one LDS, or {name: LDS}
        main : name of the studied method; by default the best one that is not a baseline.
        baselines : names of baselines; by default those that start with "random" or speak of similarity or
        BM25.
        models : retrainings the methods were fitted on.
        """
        named = _named(results)
        if not named:
            raise InputError("`results` is empty; give at least one method's LDS.")
        bases = _baselines(named) if baselines is None else set(baselines)
        own = [name for name in named if name not in bases] or list(named)
        main = max(own, key=lambda name: named[name].mean) if main is None else main
        if main not in named:
            raise InputError(f"`main` is {main!r}; it must be one of {', '.join(map(repr, named))}.")
        lead = named[main]
        rows = [
            MethodScore(name, float(r.mean), pair(r.interval), name in bases, lead=_lead(results, main, name))
            for name, r in named.items()
        ]
        return cls(
            rows=rows,
            main=main,
            ceiling=number(lead.ceiling),
            ceiling_interval=pair(lead.ceiling_interval),
            per_target=np.asarray(lead.per_target, float),
            target_ids=np.asarray(lead.target_ids),
            models=models,
            masks=lead.n_masks,
            seeds=lead.seeds,
            keep=lead.keep,
            constant=int(lead.constant),
        )

    @property
    def subject(self) -> str:
        """The studied method and its verb: "Lasso ranks", "Datamodels rank"."""
        name = capital(self.main)
        return f"{name} rank" if name.lower().endswith("datamodels") else f"{name} ranks"

    @property
    def lead(self) -> MethodScore:
        """The row that the report is about."""
        return next(row for row in self.rows if row.name == self.main)

    @property
    def best_baseline(self) -> MethodScore | None:
        """The strongest baseline, or None where there is none."""
        return max((row for row in self.rows if row.baseline), key=lambda row: row.lds, default=None)

    @property
    def ranked(self) -> list[MethodScore]:
        """Rows from best to worst."""
        return sorted(self.rows, key=lambda row: -row.lds)


def _named(results: Comparison | LDS | Mapping[str, LDS]) -> dict[str, LDS]:
    if isinstance(results, Comparison):
        return dict(results.scores)
    if isinstance(results, LDS):
        return {results.method or "Attribution": results}
    return dict(results)


def _lead(results: Any, main: str, other: str) -> Interval | None:
    return (
        pair(results.difference(main, other).interval)
        if isinstance(results, Comparison) and main != other
        else None
    )


def _baselines(named: Mapping[str, LDS]) -> set[str]:
    """Random and similarity rows, told by their name here or by the method that they record."""
    words = ("random", "similarity", "bm25")
    return {name for name, lds in named.items() if any(w in f"{name} {lds.method}".lower() for w in words)}


def capital(name: str) -> str:
    """A name as a label begins."""
    return name[:1].upper() + name[1:]


def number(value: Any) -> float | None:
    """A finite float, or None."""
    return float(value) if value is not None and np.isfinite(value) else None


def pair(value: Any) -> Interval | None:
    """A pair of finite floats, or None."""
    if value is None or not np.all(np.isfinite(np.asarray(value, float))):
        return None
    low, high = value
    return float(low), float(high)
