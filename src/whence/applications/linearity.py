"""Linearity: how much of what a model says adds up over its training examples, and what that costs to learn.

The variance split of `whence.evaluate.variance_split` (Saunshi et al. 2023) as a finding: its verdict, its
parts, the ceilings that follow for any linear datamodel, and how many retrainings reach a wanted LDS. No
datamodel is fitted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from whence.applications.applied import Applied
from whence.errors import InputError
from whence.evaluate.harmonic import ModelsNeeded, Share, VarianceSplit, models_needed, variance_split
from whence.evaluate.removals import FRESH, FRESH_MASKS
from whence.finding import Chart, Series, Table

if TYPE_CHECKING:
    from whence.bank import Bank
    from whence.study import Study

FEWEST = 100  # fresh retrainings for a split that says something
LEVELS = (0.5, 0.7, 0.8, 0.9)  # of the ceiling: LDS values that are planned for


@dataclass(frozen=True)
class Linearity(Applied):
    """How linear a model is in its data.

    Attributes
    ----------
    split : the variance split of the bank.
    needed : what it takes to reach each LDS that was asked about.
    again : the split of fresh retrainings alone, after `verify`.
    gap, gap_interval : linear share of the fresh retrainings minus the bank's, with its 95 % interval; None
        before `verify`.
    """

    split: VarianceSplit = field(kw_only=True)
    needed: tuple[ModelsNeeded, ...] = ()
    again: VarianceSplit | None = None
    gap: float | None = None
    gap_interval: tuple[float, float] | None = None
    bank: Bank = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        retrainings: int = 400,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Linearity:
        """Split the variance of fresh retrainings alone, on subsets that the bank does not hold.

        Parameters
        ----------
        retrainings : fresh ones, a third of them second seeds of a subset. The rest is as in
            `whence.retrain`.
        """
        from whence.retraining import retrain  # the executor stack loads only where something is trained

        check_fresh(study, self.bank.study_fingerprint)
        if retrainings < FEWEST:
            raise InputError(f"retrainings is {retrainings}, but a split needs at least {FEWEST}.")
        with tempfile.TemporaryDirectory() as scratch:
            # two of three subsets are trained once, the third twice
            fresh = retrain(
                study,
                retrainings,
                subsets=self.bank.plan.subsets.reseeded(seed + FRESH_MASKS),
                validation=0.0,
                held_out=1 / 3,
                held_out_seeds=2,
                seed=seed + FRESH,
                to=os.path.join(scratch, "linearity.zarr") if to is None else to,
                workers=workers,
                progress=progress,
            )
            again = variance_split(fresh, self.split.output, "overlap")
        gap = again.linear.value - self.split.linear.value
        half = 1.96 * (again.linear.standard_error**2 + self.split.linear.standard_error**2) ** 0.5
        agrees = "agrees" if abs(gap) <= half else "does not agree"
        return replace(
            self,
            again=again,
            gap=gap,
            gap_interval=(gap - half, gap + half),
            chart=_chart(self.split, again),
            verified=(
                f"{again.retrainings:,} fresh retrainings on {again.masks:,} other subsets, split alone: "
                f"linear share {again.linear}, which {agrees} with {self.split.linear}"
            ),
        )


def linearity(
    bank: Bank,
    study: Study | None = None,
    *,
    output: str | None = None,
    lds: Sequence[float] | None = None,
    retrainings: int = 400,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Linearity:
    """How linear is the model in its data, and how good can a linear datamodel become?

    Parameters
    ----------
    bank : retrainings on random subsets; hundreds, some of them on one subset with two seeds (as
        `whence.retrain` makes them).
    study : verifies with fresh retrainings.
    output : which recorded output; default the first.
    lds : values to plan for; default half, 70, 80 and 90 % of the best that a linear datamodel can reach.
    retrainings, seed, to, workers, progress : as in `Linearity.verify`.
    verify : with a study, make fresh retrainings and split them alone.

    Raises
    ------
    InputError : what `whence.evaluate.variance_split` refuses; another study; an LDS outside (0, 1).
    """
    if lds is not None and not all(0 < value < 1 for value in lds):
        raise InputError(f"lds is {tuple(lds)}, but each value must be between 0 and 1.")
    if study is not None and verify:
        check_fresh(study, bank.study_fingerprint)
    split = variance_split(bank, output)
    needed: tuple[ModelsNeeded, ...] = ()
    if split.seeds == 1 or split.seed is not None:
        best = split.best_lds().value
        wanted = [level * best for level in LEVELS] if lds is None else list(lds)
        needed = tuple(models_needed(split, value) for value in wanted if 0 < value < 1)
    found = Linearity(
        title=f"Linearity of the {split.output}",
        statement=split.verdict,
        table=_table(split, needed),
        chart=_chart(split),
        meaning=(
            "Shares of the variance of one retraining's output, over random subsets of the kept fraction. "
            "What is not linear, no sum over training examples can predict."
        ),
        provenance={
            "study": bank.study_fingerprint,
            "keep": split.keep,
            "retrainings": split.retrainings,
            "masks": split.masks,
            "targets": len(split.target_ids),
            "estimator": split.estimator,
        },
        split=split,
        needed=needed,
        bank=bank,
    )
    if study is None or not verify:
        return found
    return found.verify(study, retrainings, seed, to, workers, progress)


def check_fresh(study: Study, fingerprint: str) -> None:
    """The study must be the bank's for fresh retrainings to say anything about it."""
    if study.fingerprint != fingerprint:
        raise InputError(
            f"study has fingerprint {study.fingerprint[:12]}, but the bank was made for {fingerprint[:12]}; "
            "pass the study of the bank."
        )


def _parts(split: VarianceSplit) -> list[tuple[str, Share]]:
    parts = (("linear", split.linear), ("non-linear", split.nonlinear), ("seed", split.seed))
    return [(name, share) for name, share in parts if share is not None]


def _table(split: VarianceSplit, needed: Sequence[ModelsNeeded]) -> Table:
    rows: list[list[object]] = [
        [f"{name} share", share.value, *share.interval] for name, share in _parts(split)
    ]
    if split.seeds == 1 or split.seed is not None:
        for name, best in (("best R2", split.best_r2()), ("best LDS", split.best_lds())):
            rows.append([f"{name} of a linear datamodel", best.value, *best.interval])
    rows += [
        [f"retrainings for an LDS of {plan.lds:.2f}", plan.models, *(plan.interval or (None, None))]
        for plan in needed
    ]
    return Table(("what", "value", "95 % low", "95 % high"), rows)


def _chart(split: VarianceSplit, again: VarianceSplit | None = None) -> Chart:
    series = [_bars("this bank", split)]
    if again is not None:
        series.append(_bars("fresh retrainings", again))
    return Chart("bars", series, "", "share of the variance")


def _bars(name: str, split: VarianceSplit) -> Series:
    parts = _parts(split)
    return Series(
        name,
        [part for part, _ in parts],
        [share.value for _, share in parts],
        low=[share.interval[0] for _, share in parts],
        high=[share.interval[1] for _, share in parts],
    )
