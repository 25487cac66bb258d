"""What cleaning a training set is worth: held-out accuracy without suspects, or with their labels changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError
from whence.evaluate.intervals import welch
from whence.evaluate.removals import check_retrainings, leave_out
from whence.evaluate.result import Result, table
from whence.study.variants import with_copies, with_outputs

if TYPE_CHECKING:
    from whence.study import Study


@dataclass(frozen=True)
class Arm(Result):
    """Held-out accuracy of one training set, as a share of the study's targets, over fresh retrainings.

    `change` is against training on everything as it is, `ahead` against leaving out as many random examples;
    intervals are of 95 % (Welch, over retrainings; the targets are taken as given).
    """

    what: str
    accuracy: float
    change: float
    change_interval: tuple[float, float]
    ahead: float
    ahead_interval: tuple[float, float]


@dataclass(frozen=True)
class Cleaning(Result):
    """Held-out accuracy after training on everything, without the suspects, with them relabelled (where other
    labels are suggested), and without as many random examples, drawn anew in each retraining."""

    arms: tuple[Arm, ...]
    suspects: int
    targets: int
    retrainings: int

    def arm(self, what: str) -> Arm:
        """By its name: "as it is", "removed", "relabelled", "random removed"."""
        found = {one.what: one for one in self.arms}
        if what not in found:
            raise InputError(f"no training set is called {what!r}; there are {', '.join(found)}.")
        return found[what]

    def __str__(self) -> str:
        rows = [
            (one.what, f"{one.accuracy:.1%}", _points(one.change, one.change_interval),
             _points(one.ahead, one.ahead_interval))
            for one in self.arms
        ]  # fmt: skip
        header = ("training set", "accuracy", "change, points", "against random removal")
        return (
            f"{self.suspects} suspects, {self.retrainings} retrainings of each training set, {self.targets} "
            f"held-out targets\n{table(header, rows)}"
        )

    def sentence(self) -> str:
        """In words, for a Finding."""
        parts = [
            f"{words} {_points(one.change, one.change_interval)}"
            for one in self.arms
            if (words := _WORDS.get(one.what))
        ]
        return (
            f"held-out accuracy of {self.targets} targets ({self.arms[0].accuracy:.1%} as the labels are) "
            f"changes, in points, {', '.join(parts)} ({self.retrainings} fresh retrainings of each)"
        )


_WORDS = {
    "removed": "without the suspects by",
    "relabelled": "with them relabelled by",
    "random removed": "without as many random examples by",
}


def check_held_out(study: Study, retrainings: int) -> None:
    """`InputError` where a study cannot say what cleaning is worth."""
    check_retrainings(retrainings)
    if study.train_labels is None or study.target_labels is None:
        raise InputError(
            f"{study!r} has no labels whose accuracy could change; pass a study of labelled inputs, or "
            "verify=False."
        )
    if study.targets is study.train:
        raise InputError(
            "the study's targets are its training examples, whose accuracy is not held out; pass the study "
            "with test examples as targets, or verify=False."
        )


def clean(
    study: Study,
    suspects: np.ndarray,
    suggested: np.ndarray | None,
    retrainings: int = 20,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Cleaning:
    """Retrain with and without the suspects.

    Parameters
    ----------
    suspects : (k,) positions in the study. suggested : (k,) labels to give them, None for none.
    retrainings : of each of three or four training sets; the rest is as in `whence.retrain`.
    """
    check_held_out(study, retrainings)
    gone = np.asarray(suspects)
    if not 0 < len(gone) < study.n:
        raise InputError(f"{len(gone)} suspects of {study.n} training examples; some must go and some stay.")
    subject = with_outputs(study, ["margin_max"])  # positive exactly where the prediction is right
    if suggested is not None:
        # One study for all four, so that they differ in nothing else: a relabelled example is a copy.
        subject = with_copies(subject, gone, suggested)
    copies = np.arange(study.n, subject.n)
    rng = np.random.default_rng(seed)
    # Random examples may be suspects too: drawn from the clean ones alone, their loss would flatter cleaning.
    random = [rng.choice(study.n, len(gone), replace=False) for _ in range(retrainings)]
    sets = {"as it is": [copies] * retrainings, "removed": [np.r_[gone, copies]] * retrainings}
    if suggested is not None:
        sets["relabelled"] = [gone] * retrainings
    sets["random removed"] = [np.r_[one, copies] for one in random]
    outputs = leave_out(
        subject, [one.astype(np.int64) for part in sets.values() for one in part], 1, "margin_max",
        seed=seed, to=to, workers=workers, progress=progress,
    )  # fmt: skip
    right = {
        what: (np.concatenate(outputs[i * retrainings : (i + 1) * retrainings]) > 0).mean(1)
        for i, what in enumerate(sets)
    }
    arms = [
        Arm(
            what,
            float(found.mean()),
            *welch(found, right["as it is"]),
            *welch(found, right["random removed"]),
        )
        for what, found in right.items()
    ]
    return Cleaning(tuple(arms), len(gone), len(study.targets), retrainings)


def _points(value: float, interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * value:+.2f} [{low:+.2f}, {high:+.2f}]"
