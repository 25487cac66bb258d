"""The protocol of counterfactual support, the same for every ranker: controls, targets, caps, search."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.applications.calibration import FEWEST, Calibration, Verified, calibrate, crossing
from whence.applications.flips import CONTROLS, Flips, Open
from whence.errors import InputError
from whence.evaluate.removals import (
    check_retrainings,
    check_same_study,
    columns_in,
    helpfulness,
    ranking,
    rows_in,
)
from whence.evaluate.result import Result

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

Action = Literal["remove", "relabel"]
NO_MARGINS = ("loss", "probability", "squared_error", "logits")
LARGEST_SHARE = 0.2  # of the training set, where `limit` is not given
DRAWN = 20  # targets at most, where neither names nor a number are given
CLEAR = 2.0  # standard errors by which a drawn target must be right


@dataclass(frozen=True)
class Settings:
    """Arguments of `whence.applications.support` that say how it is searched and verified."""

    action: Action = "remove"
    limit: int | None = None
    certainty: float = 0.95
    retrainings: int = 5
    controls: int = CONTROLS
    steps: int = 7
    seed: int = 0
    to: str | os.PathLike[str] | None = None
    workers: int | None = None
    progress: bool = False

    def check(self) -> None:
        """InputError about the first argument that cannot work."""
        if self.action not in ("remove", "relabel"):
            raise InputError(f"action is {self.action!r}, but it must be 'remove' or 'relabel'.")
        check_retrainings(self.retrainings)
        if self.controls < 2 or self.steps < 1:
            raise InputError(
                f"controls={self.controls} must be at least 2 and steps={self.steps} at least 1."
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}, but a set has at least 1 example.")
        if not 0 < self.certainty < 1:
            raise InputError(f"certainty is {self.certainty}, but it is a probability between 0 and 1.")

    def cap(self, n: int) -> int:
        """Largest set that is tried."""
        return min(n - 1, self.limit or max(1, round(LARGEST_SHARE * n)))


@dataclass(frozen=True)
class TargetSupport(Result):
    """What is known of one target's support; sizes count training examples.

    Attributes
    ----------
    base : the target's mean output after training on everything (predicted where nothing was retrained).
    chance : probability that as many retrainings on everything would average below 0.
    estimate : size at which the attribution, taken at its word, says that the output crosses 0.
    calibrated : size that flips it with the wanted certainty, from a calibration on other targets.
    support : smallest size found to flip it, and to flip it again in fresh retrainings; None where there is
        none up to the cap.
    tried : largest size known not to flip it; with no `support`, where the search was censored.
    cap : largest size that was to be tried.
    margin, margin_se : mean output in fresh retrainings without the support, and its standard error.
    examples : train ids of the support (of the calibrated or estimated set where nothing was retrained).
    trials : (size, mean output, standard error) of every set that was tried.
    """

    target: Any
    base: float
    chance: float | None
    estimate: int | None
    calibrated: int | None
    support: int | None
    tried: int
    cap: int
    margin: float | None
    margin_se: float | None
    examples: tuple[Any, ...]
    trials: tuple[tuple[int, float, float], ...]

    @property
    def words(self) -> str:
        """The size as a reader should see it: 37, or > 200."""
        return str(self.support) if self.support is not None else f"> {self.tried}"


class Protocol:
    """One search over several attributions of one study, with common controls and common targets."""

    def __init__(self, attributions: Mapping[str, Attribution], study: Study, settings: Settings) -> None:
        settings.check()
        outputs = {check_margin(scores, check_same_study(scores, study)) for scores in attributions.values()}
        if len(outputs) > 1:
            raise InputError(f"attributions explain {sorted(outputs)}; compare those of one output.")
        self.attributions, self.study, self.settings = dict(attributions), study, settings
        if settings.action == "relabel":
            from whence.study.variants import with_outputs

            with_outputs(study, ("logits",))  # says before any training what cannot be relabelled
        self.flips = self._flips(study, outputs.pop())
        self.base = self.spread = np.zeros(0)
        self.runner_up: dict[int, int] = {}

    def _flips(self, study: Study, output: str, folder: str = "") -> Flips:
        s = self.settings
        return Flips(
            study,
            output,
            retrainings=s.retrainings,
            steps=s.steps,
            seed=s.seed,
            folder=None if s.to is None else Path(s.to) / folder,
            workers=s.workers,
            progress=s.progress,
        )

    def measure_controls(self) -> None:
        """Train on everything: `base` and `spread` (targets of the study,), mean output and its sd."""
        outputs = self.flips.controls(self.settings.controls)
        self.base, self.spread = outputs.mean(0), outputs.std(0, ddof=1)

    def chance(self, place: int) -> float:
        """Probability that the mean of as many retrainings as a set gets is below 0 with nothing removed."""
        error = max(self.spread[place] / math.sqrt(self.settings.retrainings), 1e-300)
        return NormalDist().cdf(-self.base[place] / error)

    def choose(self, targets: int | Sequence[Any] | None) -> list[Any]:
        """Target ids: those named, or so many drawn from the clearly right ones (None: as many as 20)."""
        first = next(iter(self.attributions.values()))
        place = rows_in(first, self.study)
        if targets is not None and not isinstance(targets, int | np.integer):
            wrong = [i for i in first.target_index(targets) if self.base[place[i]] <= 0]
            if wrong:
                raise InputError(
                    f"target {first.target_ids[wrong[0]]} is misclassified already: its mean {first.output} "
                    f"is {self.base[place[wrong[0]]]:.2f} in {self.settings.controls} retrainings on "
                    "everything; choose a target with a positive one."
                )
            return list(targets)
        error = self.spread[place] / math.sqrt(self.settings.retrainings)
        clear = np.flatnonzero(self.base[place] > CLEAR * error)
        targets = min(DRAWN, max(len(clear), 1)) if targets is None else targets
        if not 0 < targets <= len(clear):
            raise InputError(
                f"targets is {targets}, but {len(clear)} of {len(place)} are right by more than {CLEAR:g} "
                f"standard errors of {self.settings.retrainings} retrainings; ask for 1 to {len(clear)} or "
                "name them."
            )
        rng = np.random.default_rng(self.settings.seed)
        return first.target_ids[np.sort(rng.choice(clear, int(targets), replace=False))].tolist()

    def find_runners_up(self, ids: Sequence[Any]) -> None:
        """The class that each target is next likeliest to be called, from fresh retrainings on everything."""
        from whence.study.variants import with_copies, with_outputs

        scores = next(iter(self.attributions.values()))
        places = rows_in(scores, self.study)[scores.target_index(list(ids))]
        labels = self.study.target_labels
        assert labels is not None
        mean = np.zeros((len(labels), 2))
        if self.study.class_count != 2:
            asked = self._flips(with_outputs(self.study, ("logits",)), "logits", "runner-up")
            mean = asked.controls(self.settings.retrainings).mean(0)
        mean[np.arange(len(labels)), labels] = -np.inf
        self.runner_up = {int(place): int(mean[place].argmax()) for place in places}
        # One study with every copy that may be asked for; a set leaves out originals and all other copies.
        wanted = sorted(
            {
                (int(column), self.runner_up[int(place)])
                for scores in self.attributions.values()
                for place, row in zip(places, scores.target_index(list(ids)), strict=True)
                for column in self.order(scores, int(row), int(place))[: self.settings.cap(self.study.n)]
            }
        )
        study, flips = self.study, self.flips
        copy_of = {pair: study.n + number for number, pair in enumerate(wanted)}
        everything = np.arange(study.n, study.n + len(wanted))

        def without(target: int, places: np.ndarray) -> np.ndarray:
            used = [copy_of[int(column), self.runner_up[target]] for column in places]
            return np.concatenate([places, np.setdiff1d(everything, used)])

        flips.study = with_copies(study, *np.array(wanted, np.int64).reshape(-1, 2).T)
        flips.without = without

    def order(self, scores: Attribution, row: int, place: int) -> np.ndarray:
        """Places in the study of the helpful examples, most helpful first."""
        rng = np.random.default_rng([self.settings.seed, row])
        ranked = ranking(scores, row, rng)
        ranked = ranked[helpfulness(scores, row)[ranked] > 0]
        columns = columns_in(scores, self.study)[ranked]
        if self.settings.action == "relabel":
            labels = self.study.train_labels
            assert labels is not None
            columns = columns[labels[columns] != self.runner_up[place]]
        return columns

    def open(
        self, scores: Attribution, target: Any, calibration: Calibration | None
    ) -> tuple[Open, np.ndarray]:
        """The target ready for a search, and the falls predicted for its prefixes, (cap,)."""
        row = int(scores.target_index(target)[0])
        place = int(rows_in(scores, self.study)[row])
        order = self.order(scores, row, place)
        cap = min(self.settings.cap(self.study.n), len(order))
        back = {column: i for i, column in enumerate(columns_in(scores, self.study).tolist())}
        weights = helpfulness(scores, row)[[back[column] for column in order[:cap].tolist()]]
        drops = np.cumsum(weights.astype(np.float64))
        first = (
            None
            if calibration is None
            else calibration.size(self.base[place], drops, self.settings.certainty)
        )
        return Open(place, order, cap, first), drops

    def rows(
        self, scores: Attribution, ids: Sequence[Any], found: Sequence[tuple[Open, np.ndarray]],
        given: Calibration | None,
    ) -> tuple[tuple[TargetSupport, ...], Calibration | None]:  # fmt: skip
        """What the search found, and a calibration from all of it; a target's own is fitted without it."""
        known = [
            Verified(self.base[one.target], drops, one.low, one.high if one.confirmed is not None else None)
            for one, drops in found
        ]
        rows = []
        for number, (identity, (one, drops)) in enumerate(zip(ids, found, strict=True)):
            mine = given or fitted(known[:number] + known[number + 1 :], scores.method)
            base = float(self.base[one.target])
            fresh = one.confirmed
            rows.append(
                TargetSupport(
                    target=identity,
                    base=base,
                    chance=self.chance(one.target),
                    estimate=taken_at_its_word(scores, base, drops),
                    calibrated=None if mine is None else mine.size(base, drops, self.settings.certainty),
                    support=None if fresh is None else one.high,
                    tried=one.low,
                    cap=one.cap,
                    margin=None if fresh is None else float(fresh.mean()),
                    margin_se=None if fresh is None else standard_error(fresh),
                    examples=tuple(
                        self.study.train_ids[one.order[: one.high if fresh is not None else 0]].tolist()
                    ),
                    trials=tuple(
                        (k, float(x.mean()), standard_error(x)) for k, x in sorted(one.trials, key=_size)
                    ),
                )
            )
        return tuple(rows), given or fitted(known, scores.method)


def fitted(known: Sequence[Verified], method: str) -> Calibration | None:
    """A calibration, where there are enough targets for one."""
    if sum(one.high is not None for one in known) < FEWEST:
        return None
    return calibrate(known, method)


def taken_at_its_word(scores: Attribution, base: float, drops: np.ndarray) -> int | None:
    """Size at which a calibrated attribution's predicted fall reaches `base`; None beyond the cap."""
    if not scores.calibrated:
        return None
    size = float(crossing(base, drops, 1.0))
    return max(1, math.ceil(size - 1e-9)) if size <= len(drops) else None


def check_margin(scores: Attribution, output: str) -> str:
    """The output, if falling below 0 means a wrong prediction."""
    if scores.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({scores.output}); support needs a margin, "
            "one number a target."
        )
    if scores.lower_is_better or output in NO_MARGINS:
        raise InputError(
            f"attribution explains {output!r}, but a prediction flips where a margin falls below 0; "
            "attribute the output 'margin'."
        )
    return output


def check_targets(attribution: Attribution, wanted: int | Sequence[Any]) -> None:
    """InputError about a number of targets that there are not, or about ids: unknown, none, or twice."""
    if isinstance(wanted, int | np.integer):
        count = len(attribution.target_ids)
        if not 0 < wanted <= count:
            raise InputError(
                f"targets is {wanted}, but the attribution has {count}; pass 1 to {count}, or ids."
            )
        return
    rows = attribution.target_index(wanted).tolist()
    if not rows or len(set(rows)) < len(rows):
        raise InputError("targets must name at least one target, and none of them twice.")


def standard_error(outputs: np.ndarray) -> float:
    return float(outputs.std(ddof=1) / math.sqrt(len(outputs)))


def _size(trial: tuple[int, np.ndarray]) -> int:
    return trial[0]
