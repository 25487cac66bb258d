"""The search for the smallest prefix of a ranking whose removal flips a target, many targets at a time.

Each stage retrains one set for every target that is still open, so that models are trained together and a
stopped search resumes stage by stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError
from whence.evaluate.removals import leave_out

if TYPE_CHECKING:
    from whence.study import Study

WIDE = 2  # a bracket that is never left as it is
PRECISION = 1.1  # a bracket is narrow enough when its ends are within ten per cent
CONTROLS = 40  # retrainings on everything, for the mean output that a removal has to bring below 0


@dataclass
class Open:
    """A target under search.

    The retrainings that found a set are no fair witness of it: of many sets tried, the one that seemed to
    flip the target had luck with its seeds. So a set counts when it flips the target again in fresh
    retrainings; if it does not, the search goes on above it.

    Attributes
    ----------
    target : its place in the study. order : places of training examples, those to be removed first first.
    cap : longest prefix to be tried. first : prefix to try first, where something is known; default the cap.
    low, high : longest prefix that did not flip it, shortest that did (None: none yet).
    trials : (size, outputs of the target without that prefix), in the order in which they were made.
    confirmed : outputs of the fresh retrainings without the first `high`; None as long as there are none.
    """

    target: int
    order: np.ndarray
    cap: int
    first: int | None = None
    low: int = 0
    high: int | None = None
    trials: list[tuple[int, np.ndarray]] = field(default_factory=list)
    confirmed: np.ndarray | None = None

    def next(self, steps: int) -> int | None:
        """The prefix to try now; None when the search is over. After `steps` trials only a bracket whose ends
        differ by more than a factor of 2 is narrowed."""
        if self.confirmed is not None or self.low >= self.cap:
            return None
        if self.high is None:
            return min(self.cap, (self.first or self.cap) if not self.trials else 4 * self.low)
        wide = (
            self.high > WIDE * self.low
        )  # also after a failed confirmation, where the next flip lies far off
        if self.narrow or (len(self.trials) >= steps and not wide):
            return self.high
        return min(max(round(math.sqrt(max(self.low, 0.5) * self.high)), self.low + 1), self.high - 1)

    @property
    def narrow(self) -> bool:
        """Whether the ends of the bracket are as good as equal."""
        return self.high is not None and (self.high - self.low <= 1 or self.high <= self.low * PRECISION)

    def take(self, size: int, outputs: np.ndarray) -> None:
        """Record what the target's output was without the first `size`."""
        flipped = bool(outputs.mean() < 0)
        again = size == self.high
        self.trials.append((size, outputs))
        if again and flipped:
            self.confirmed = outputs
        elif flipped:
            self.high = size
        else:
            self.low = size
            if again:
                above = [k for k, x in self.trials if k > size and x.mean() < 0]
                self.high = min(above, default=None)


@dataclass
class Flips:
    """Retrainings of one study without sets of its training examples.

    Attributes
    ----------
    study, output : what is trained, and which output crosses 0.
    retrainings : fresh seeds for each set. steps : trials after which a bracket is narrow enough.
    folder : where the stages' banks lie, None for temporary ones.
    without : makes training sets to leave out of `study` from (target, places); by default the places.
    """

    study: Study
    output: str
    retrainings: int = 5
    steps: int = 7
    seed: int = 0
    folder: Path | None = None
    workers: int | None = None
    progress: bool = False
    without: Callable[[int, np.ndarray], np.ndarray] = lambda target, places: places
    trained: int = 0
    _stage: int = 0

    def controls(self, count: int) -> np.ndarray:
        """Outputs (count, targets) after training on everything."""
        return self._retrain("controls", [np.zeros(0, np.int64)], count)[0]

    def search(self, targets: Sequence[Open]) -> None:
        """Find, for every target, a prefix that flips it twice: as it is found, and in fresh retrainings."""
        stage = 0
        while jobs := [(one, size) for one in targets if (size := one.next(self.steps)) is not None]:
            for (one, size), outputs in zip(jobs, self.outputs(f"search-{stage}", jobs), strict=True):
                one.take(size, outputs)
            stage += 1

    def outputs(self, name: str, jobs: Sequence[tuple[Open, int]]) -> list[np.ndarray]:
        """For each (target, size) the target's outputs (retrainings,) without the prefix of that size."""
        if not jobs:
            return []
        # Models that take equally many steps are trained together, so equal sizes stand side by side.
        order = sorted(range(len(jobs)), key=lambda i: jobs[i][1])
        sets = [self.without(jobs[i][0].target, jobs[i][0].order[: jobs[i][1]]) for i in order]
        made: list[np.ndarray] = [np.zeros(0)] * len(jobs)
        for i, outputs in zip(order, self._retrain(name, sets, self.retrainings), strict=True):
            made[i] = outputs[:, jobs[i][0].target]
        return made

    def _retrain(self, name: str, sets: list[np.ndarray], retrainings: int) -> list[np.ndarray]:
        self._stage += 1
        outputs = leave_out(
            self.study,
            [places.tolist() for places in sets],
            retrainings,
            self.output,
            seed=1000 * self.seed + self._stage,  # a stage's seeds are its own
            to=None if self.folder is None else self.folder / f"{name}.zarr",
            workers=self.workers,
            progress=self.progress,
        )
        self.trained += len(sets) * retrainings
        if min(map(len, outputs)) < 2:
            raise InputError(
                "fewer than 2 retrainings without some set gave finite outputs; mend the recipe first."
            )
        return outputs
