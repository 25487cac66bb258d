"""How well an attack works: retrain, and see how many triggered images are taken for the target class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.applications.backdoor.attack import Poisoned
from whence.errors import InputError
from whence.evaluate.intervals import mean_interval, welch
from whence.evaluate.removals import check_retrainings, leave_out
from whence.evaluate.result import Result, with_interval
from whence.study.variants import with_outputs


@dataclass(frozen=True)
class AttackSuccess(Result):
    """What models trained on a poisoned set do; intervals are 95 %, over retrainings.

    Attributes
    ----------
    success, success_interval : mean share of the triggered targets of other classes that are taken for the
        target class.
    accuracy, accuracy_interval : mean share of the untouched targets that are classified right.
    successes, accuracies : the shares of each retraining.
    triggered, targets : how many triggered and untouched targets there are.
    removed : how many training examples were left out.
    """

    success: float
    success_interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]
    successes: tuple[float, ...]
    accuracies: tuple[float, ...]
    triggered: int
    targets: int
    removed: int

    def change(
        self, before: AttackSuccess
    ) -> tuple[tuple[float, tuple[float, float]], tuple[float, tuple[float, float]]]:
        """Success and accuracy minus those of `before`, each with its 95 % interval (Welch)."""
        return (
            welch(np.array(self.successes), np.array(before.successes)),
            welch(np.array(self.accuracies), np.array(before.accuracies)),
        )

    def __str__(self) -> str:
        return (
            f"attack success {with_interval(self.success, self.success_interval)} on {self.triggered} "
            f"triggered targets, clean accuracy {with_interval(self.accuracy, self.accuracy_interval)} on "
            f"{self.targets} targets; {self.removed} training examples left out, {len(self.successes)} "
            "retrainings"
        )


def attack_success(
    poisoned: Poisoned,
    remove: Sequence[int] | np.ndarray = (),
    retrainings: int = 10,
    *,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> AttackSuccess:
    """Attack success and clean accuracy of the poisoned study.

    Parameters
    ----------
    poisoned : from `poison`.
    remove : positions of training examples to leave out, for example those that a search flagged.
    retrainings : fresh training seeds, at least 2.
    seed : of the retrainings; the same one trains with the same seeds whatever is removed.
    to : path of the bank that keeps the retrainings, so that a stopped check resumes; default temporary.

    Raises
    ------
    InputError : positions out of range or all of them; too few retrainings; a study whose outputs are its
        own.
    """
    check_retrainings(retrainings)
    study, own = poisoned.asked_both()
    (outputs,) = leave_out(
        with_outputs(study, ["margin_max"]),
        [np.asarray(remove).tolist()],
        retrainings,
        "margin_max",
        seed=seed,
        to=to,
        workers=workers,
        progress=progress,
    )
    if len(outputs) < 2:
        raise InputError(
            f"only {len(outputs)} of {retrainings} retrainings gave finite outputs; look at the recipe."
        )
    right = outputs > 0
    successes, accuracies = right[:, own:].mean(1), right[:, :own].mean(1)
    success, success_interval = mean_interval(successes)
    accuracy, accuracy_interval = mean_interval(accuracies)
    return AttackSuccess(
        success,
        success_interval,
        accuracy,
        accuracy_interval,
        tuple(successes.tolist()),
        tuple(accuracies.tolist()),
        right.shape[1] - own,
        own,
        len(np.unique(np.asarray(remove))),
    )
