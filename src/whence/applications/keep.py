"""Keep fractions: which kept fraction to retrain at for which question, as one table with its cost.

`whence.evaluate.keep_fractions` as a finding: every estimate is judged by retrainings, held out of the fit,
at every fraction.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whence.applications.applied import Applied
from whence.applications.linearity import check_fresh
from whence.errors import InputError
from whence.evaluate.keep import KeepFractions, keep_fractions
from whence.evaluate.learning_curve import Fits
from whence.evaluate.removals import FRESH, FRESH_MASKS

if TYPE_CHECKING:
    from whence.bank import Bank
    from whence.study import Study

FEWEST = 8  # masks that an LDS can be judged by


@dataclass(frozen=True)
class Keep(Applied):
    """Datamodels estimated at several kept fractions, judged at each.

    Attributes
    ----------
    fractions : LDS of every estimate for every judge, with intervals, ceilings and costs.
    best : judged fraction -> the fraction whose datamodel predicts it best.
    """

    fractions: KeepFractions = field(kw_only=True)
    best: dict[float, float] = field(default_factory=dict)
    method: Fits = field(repr=False, compare=False, kw_only=True)
    banks: tuple[Bank, ...] = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        masks: int = 40,
        seeds: int = 2,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Keep:
        """Judge the same datamodels by fresh retrainings at every fraction.

        Parameters
        ----------
        masks, seeds : fresh subsets at each fraction, and retrainings of each. The rest is as in
            `whence.retrain`; `to` is a folder, with a bank for each fraction.
        """
        from whence.retraining import retrain  # the executor stack loads only where something is trained

        check_fresh(study, self.banks[0].study_fingerprint)
        if masks < FEWEST or seeds < 1:
            raise InputError(
                f"masks is {masks} and seeds {seeds}, but at least {FEWEST} masks and 1 seed are needed."
            )
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if to is None else to)
            judges = [
                retrain(
                    study,
                    masks * seeds,
                    subsets=bank.plan.subsets.reseeded(seed + FRESH_MASKS),
                    validation=0.0,
                    held_out=0.0,
                    seeds=seeds,
                    seed=seed + FRESH,
                    to=folder / f"keep-{bank.keep:g}.zarr",
                    workers=workers,
                    progress=progress,
                )
                for bank in self.banks
            ]
            output = self.fractions.cells[0].score.output
            again = keep_fractions(self.method, self.banks, output, seed=seed, judges=judges)
        changed = [at for at in again.fractions if again.best(at) != self.best[at]]
        words = (
            "the same fractions are best" if not changed else f"another fraction is best at {_list(changed)}"
        )
        return replace(
            _finding(again, self.method, self.banks),
            verified=f"{masks} fresh subsets x {seeds} seeds at each fraction: {words}",
        )


def keep(
    banks: Sequence[Bank],
    study: Study | None = None,
    method: Fits | None = None,
    *,
    output: str | None = None,
    masks: int = 40,
    seeds: int = 2,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Keep:
    """Which kept fraction to retrain at: datamodels of each, judged at every other.

    Parameters
    ----------
    banks : of one study, each at another kept fraction, with held-out parts; give small fractions more
        retrainings, for they are cheaper.
    study : verifies by fresh retrainings at every fraction.
    method : anything with ``attribute(bank, output)``; default ``Datamodel("ridge")``.
    output : which recorded output; default the first.
    masks, seeds, seed, to, workers, progress : as in `Keep.verify`.
    verify : with a study, judge again by fresh retrainings.

    Raises
    ------
    InputError : what `whence.evaluate.keep_fractions` refuses; another study.
    """
    from whence.methods import Datamodel

    if not banks:
        raise InputError("banks is empty; pass two or more banks of one study at different kept fractions.")
    if study is not None and verify:
        check_fresh(study, banks[0].study_fingerprint)
    method = Datamodel("ridge") if method is None else method
    found = _finding(keep_fractions(method, banks, output, seed=seed), method, tuple(banks))
    if study is None or not verify:
        return found
    return found.verify(study, masks, seeds, seed, to, workers, progress)


def _finding(found: KeepFractions, method: Fits, banks: tuple[Bank, ...]) -> Keep:
    best = {judged: found.best(judged) for judged in found.fractions}
    own = [at for at, chosen in best.items() if at == chosen]
    score = found.cells[0].score
    others = "; ".join(f"at {at:g} one estimated at {best[at]:g}" for at in best if at not in own)
    statement = f"{found.method} estimated at the kept fraction that is asked about predicts best" + (
        " at every fraction"
        if not others
        else f" at {_list(own)}; {others}"
        if own
        else f" nowhere: {others}"
    )
    return Keep(
        title="Which kept fraction?",
        statement=statement,
        table=found.table(),
        chart=found.chart(),
        verified=f"{score.n_masks} held-out subsets x {score.seeds} seeds at each fraction, in no fit",
        meaning="LDS with its 95 % interval; seconds are of one worker, for all retrainings of a fit.",
        provenance={
            "method": found.method,
            "study": banks[0].study_fingerprint,
            "output": score.output,
            "models": {f"{cell.estimated_at:g}": cell.models for cell in found.cells},
        },
        fractions=found,
        best=best,
        method=method,
        banks=banks,
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
