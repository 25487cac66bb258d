"""Whether a principal component is causal: remove the training examples at one of its ends and retrain.

Ilyas et al. 2022, section 4.3 and its appendix: the targets at the two ends should move in opposite
directions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.components import Components
from whence.errors import InputError
from whence.evaluate.intervals import welch
from whence.evaluate.removals import check, columns_in, leave_out, rows_in
from whence.evaluate.result import Result

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


@dataclass(frozen=True)
class Pull(Result):
    """What one removal did to the targets at the two ends of a component.

    Attributes
    ----------
    component : its number. end : which training examples were removed, "upper", "lower" or "random".
    removed : how many. upper, lower : mean change of the output of targets at either end, against the full
        training set. apart, interval : upper minus lower, with its 95 % interval (Welch, over retrainings).
    average : mean change over all targets. spread : standard deviation of the outputs over retrainings of the
        full training set, for scale.
    """

    component: int
    end: str
    removed: int
    upper: float
    lower: float
    apart: float
    interval: tuple[float, float]
    average: float
    spread: float
    retrainings: int

    @property
    def as_predicted(self) -> bool:
        """Whether the ends moved apart the way the component says, beyond the interval."""
        if self.end == "upper":
            return self.interval[1] < 0
        return self.interval[0] > 0 if self.end == "lower" else self.interval[0] <= 0 <= self.interval[1]


def pulls(
    attribution: Attribution,
    found: Components,
    study: Study,
    components: Sequence[int],
    remove: int | None,
    ends: int | None,
    retrainings: int,
    seed: int,
    to: str | os.PathLike[str] | None,
    workers: int | None,
    progress: bool,
) -> list[Pull]:
    """One `Pull` for each end of each component, and one for as many random training examples."""
    n, targets = attribution.shape[-1], len(attribution.target_ids)
    remove = max(1, n // 20) if remove is None else int(remove)
    ends = max(1, targets // 10) if ends is None else int(ends)
    output = check(attribution, study, [remove], ["top"], retrainings)
    chosen = list(dict.fromkeys(int(c) for c in components))
    if not chosen or not all(0 <= c < len(found.directions) for c in chosen):
        raise InputError(
            f"components is {tuple(components)}, but there are {len(found.directions)}, numbered from 0."
        )
    if 2 * remove > n or not 1 <= 2 * ends <= targets:
        raise InputError(
            f"remove={remove} and ends={ends}, but two ends must fit into {n} training examples and "
            f"{targets} targets."
        )
    rng = np.random.default_rng(seed)
    sets: list[tuple[int, str, np.ndarray]] = []
    for c in chosen:
        order = np.argsort(-found.directions[c], kind="stable")
        at_random = rng.choice(n, remove, replace=False)
        sets += [(c, "upper", order[:remove]), (c, "lower", order[::-1][:remove]), (c, "random", at_random)]
    columns = columns_in(attribution, study)
    retrained = leave_out(
        study,
        [[], *(columns[removed].tolist() for *_, removed in sets)],
        retrainings,
        output,
        seed=seed,
        to=to,
        workers=workers,
        progress=progress,
    )
    sign, rows = -1.0 if attribution.lower_is_better else 1.0, rows_in(attribution, study)
    full, *others = [sign * outputs[:, rows] for outputs in retrained]
    if min(map(len, retrained)) < 2:
        raise InputError(
            "fewer than 2 retrainings of a set gave finite outputs; mend the recipe or raise retrainings."
        )
    pulled = []
    for (c, end, removed), mine in zip(sets, others, strict=True):
        order = np.argsort(-found.projections[:, c], kind="stable")
        pulled.append(_pull(c, end, len(removed), full, mine, order[:ends], order[::-1][:ends]))
    return pulled


def _pull(
    component: int, end: str, removed: int, full: np.ndarray, mine: np.ndarray, above: Any, below: Any
) -> Pull:
    def gap(outputs: np.ndarray) -> np.ndarray:
        return outputs[:, above].mean(1) - outputs[:, below].mean(1)

    change = mine.mean(0) - full.mean(0)
    apart, interval = welch(gap(mine), gap(full))
    return Pull(
        component=component,
        end=end,
        removed=removed,
        upper=float(change[above].mean()),
        lower=float(change[below].mean()),
        apart=apart,
        interval=interval,
        average=float(change.mean()),
        spread=float(full.std(0, ddof=1).mean()),
        retrainings=len(mine),
    )
