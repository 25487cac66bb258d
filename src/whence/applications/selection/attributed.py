"""Attributed: choose by what an attribution says an example does to the targets (DsDm, DataMIL).

Engstrom, Feldmann, Madry 2024 (arXiv 2401.12926), section 3: with tau_{x,i} the weight of candidate i on the
loss of target example x, the choice of k candidates that minimises the predicted mean loss takes the k
smallest of the means over x: one sort, no interactions. Dass et al. 2025 (arXiv 2505.09603) choose clusters
of robot demonstrations so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method


@dataclass(frozen=True, eq=False)
class Attributed(Selector):
    """The mean weight over the target examples, negated for a loss: higher = lowers the loss more.

    Parameters
    ----------
    estimate : a method, or an attribution at hand. Its rows are target examples, or means over the examples
        of a task under the task's name (``TRAK(groups=...)``, ``MAGIC(groups=...)``), which costs one row a
        task.
    output : what is to become better; "loss" goes down, any other output up.
    source : what a method reads: a Bank for those that need retrainings (say on clusters,
        ``Subsets.grouped``). Default: the pool's study.
    """

    estimate: Method | Attribution
    output: str = "loss"
    source: Any = None
    name: str = "datamodel"

    @classmethod
    def given(cls, attribution: Attribution, name: str = "datamodel") -> Attributed:
        """By an attribution at hand."""
        return cls(attribution, attribution.output, name=name)

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) in units of the attribution; it is estimated once for all tasks of a study."""
        found = pool.remember(self, lambda: self.attribution(pool.study))
        if found.output_ids is not None:
            raise InputError(
                f"{self.name} explains a vector output ({found.output}); a choice needs a scalar one such as "
                "loss."
            )
        missing = set(pool.ids.tolist()) - set(found.train_ids.tolist())
        if missing:
            raise InputError(
                f"{self.name} weighs no candidate {next(iter(missing))!r} ({len(missing)} of {pool.n} are "
                "missing); estimate it for this study."
            )
        columns = found.train_index(pool.ids)
        total = np.zeros(pool.n)
        rows = self._rows(found, pool)
        for row in rows:  # one at a time: an attribution that lies on disk need not fit in memory
            total += found.data["weight"].isel(target=int(row)).values[columns]
        return total / len(rows) * (-1.0 if found.lower_is_better else 1.0)

    def attribution(self, study: Any) -> Attribution:
        """The attribution that is gone by."""
        if isinstance(self.estimate, Attribution):
            return self.estimate
        return self.estimate.attribute(study if self.source is None else self.source, self.output)

    def _rows(self, found: Attribution, pool: Pool) -> np.ndarray:
        known = set(found.target_ids.tolist())
        if set(pool.target_ids.tolist()) <= known:
            return found.target_index(pool.target_ids)
        if pool.task in known:
            return found.target_index(pool.task)
        raise InputError(
            f"{self.name} explains neither the {len(pool.target_ids)} target examples of {pool.task!r} nor a "
            f"mean of that name; its rows are {', '.join(map(str, found.target_ids[:5].tolist()))}"
            f"{', ...' if len(known) > 5 else ''}."
        )
