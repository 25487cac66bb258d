"""What a search for wrong labels found: suspects, and how they fare against the truth and retraining."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.mislabels_cleaning import Cleaning, clean
from whence.applications.suspicion import average_precision
from whence.errors import InputError
from whence.evaluate.detection import auc_difference, auc_interval, precision_at
from whence.evaluate.result import Result, table, with_interval

if TYPE_CHECKING:
    from whence.study import Study


@dataclass(frozen=True)
class Mislabel(Result):
    """A training example whose label is taken for wrong.

    Attributes
    ----------
    train : its id. place : its position in the finding's `ids`. given, suggested : labels as the study names
        them (suggested is None where no class probabilities are known).
    chance : out-of-fold probability of the given label, None where not known.
    ranks : its place in every ranking, 1 = most suspicious.
    """

    train: Any
    place: int
    given: Any
    suggested: Any
    chance: float | None
    ranks: dict[str, int]


@dataclass(frozen=True)
class RankingScore(Result):
    """How well one ranking finds known wrong labels.

    `auc` is the chance that a wrong label is ranked above a right one (95 % interval by DeLong et al. 1988),
    `precision` the share of wrong labels among as many first ones as there are wrong labels; a random ranking
    has 0.5 and the noise rate. `behind` is how far its AUC lies below that of the ranking that the finding
    goes by.
    """

    ranking: str
    auc: float
    auc_interval: tuple[float, float]
    average_precision: float
    precision: float
    behind: float
    behind_interval: tuple[float, float]


@dataclass(frozen=True)
class Recovery(Result):
    """Known wrong labels against what was found.

    Attributes
    ----------
    rows : every ranking, best AUC first. by : the ranking that the finding goes by.
    wrong, n : wrong labels among all. estimated : how many the finding expected, None where it does not know.
    precision, recall : of the finding's suspects.
    corrected : share of the truly wrong suspects for which the true label was suggested; None where the truth
        was given as right or wrong only, or nothing was suggested.
    """

    rows: tuple[RankingScore, ...]
    by: str
    wrong: int
    n: int
    estimated: float | None
    precision: float
    recall: float
    corrected: float | None

    def row(self, ranking: str) -> RankingScore:
        """The score of one ranking."""
        found = {one.ranking: one for one in self.rows}
        if ranking not in found:
            raise InputError(f"no ranking is called {ranking!r}; there are {', '.join(found)}.")
        return found[ranking]

    def __str__(self) -> str:
        rows = [
            (one.ranking, with_interval(one.auc, one.auc_interval), f"{one.average_precision:.3f}",
             f"{one.precision:.3f}")
            for one in self.rows
        ]  # fmt: skip
        expected = "" if self.estimated is None else f", {self.estimated:.0f} expected"
        header = ("ranking", "AUC", "average precision", f"precision at {self.wrong}")
        return (
            f"{self.wrong} of {self.n} labels are wrong{expected}; of the suspects {self.precision:.0%} are, "
            f"which is {self.recall:.0%} of the wrong ones\n{table(header, rows)}"
        )


@dataclass(frozen=True)
class Mislabels(Applied):
    """Training examples by how wrong their labels look.

    Attributes
    ----------
    suspects : those taken for wrong, most suspicious first. by : the ranking that this goes by.
    estimates : number of wrong labels in the training set by what estimates it, best first: "mixture" and
        "confident learning" (`whence.applications.mislabels_confident`), "threshold class". Empty where
        nothing does. The first one decides how many are suspected, unless told.
    rankings : name -> (n,) suspicion, larger = more suspicious, in the order of `ids`.
    ids, labels, suggested : (n,) training ids, given labels, likeliest other labels (None where unknown).
    cleaning : after `verify`, held-out accuracy of cleaned training sets.
    """

    suspects: tuple[Mislabel, ...] = ()
    by: str = ""
    estimates: dict[str, float] = field(default_factory=dict)
    cleaning: Cleaning | None = None
    rankings: Mapping[str, np.ndarray] = field(repr=False, compare=False, default_factory=dict)
    ids: np.ndarray = field(repr=False, compare=False, kw_only=True)
    labels: np.ndarray | None = field(repr=False, compare=False, default=None)
    suggested: np.ndarray | None = field(repr=False, compare=False, default=None)

    @property
    def suspicion(self) -> np.ndarray:
        """(n,) of the ranking that the finding goes by."""
        return self.rankings[self.by]

    @property
    def estimated(self) -> float | None:
        """The first of `estimates`, None where there is none."""
        return next(iter(self.estimates.values()), None)

    def verify(
        self,
        study: Study,
        count: int | None = None,
        retrainings: int = 20,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Mislabels:
        """Retrain without the suspects, with them under the suggested labels, and without as many random
        examples, and compare held-out accuracy.

        Accuracy is that of the study's targets, whose labels are taken for right. Costs four times
        `retrainings` (three without suggestions).

        Parameters
        ----------
        count : suspects to clean, the most suspicious first (default: all).
        """
        listed = list(self.suspects[: len(self.suspects) if count is None else max(count, 0)])
        where = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
        if set(where) != set(self.ids.tolist()):
            raise InputError(
                "the study has other training examples than the finding; pass the study that was searched."
            )
        places = np.array([one.place for one in listed], np.int64)
        at = np.array([where[one.train] for one in listed], np.int64)
        suggested = None if self.suggested is None else self.suggested[places]
        cleaning = clean(study, at, suggested, retrainings, seed, to, workers, progress)
        return replace(self, cleaning=cleaning, verified=cleaning.sentence())

    def against(self, known: np.ndarray) -> Recovery:
        """How well known wrong labels are found, by every ranking.

        Parameters
        ----------
        known : (n,) true labels in the order of `ids`, or booleans that are True where the label is wrong.

        Raises
        ------
        InputError : another length; no label or every label wrong; true labels where the given ones are not
            known.
        """
        known = np.asarray(known)
        if known.shape != self.ids.shape or known.dtype.kind not in "biu":
            raise InputError(
                f"known has shape {known.shape} and dtype {known.dtype}, but it must be {self.ids.shape}: "
                "true labels, or booleans."
            )
        wrong = known if known.dtype == bool else known != self._given()
        if not 0 < wrong.sum() < len(wrong):
            raise InputError(
                f"known says that {int(wrong.sum())} of {len(wrong)} labels are wrong; a ranking is judged "
                "where some are and some are not."
            )
        count = int(wrong.sum())
        rows = [
            RankingScore(
                name,
                *auc_interval(score, wrong),
                average_precision(score, wrong),
                precision_at(score, wrong, count),
                *auc_difference(self.suspicion, score, wrong),
            )
            for name, score in self.rankings.items()
        ]
        places = np.array([one.place for one in self.suspects], np.int64)
        hits = places[wrong[places]]
        corrected = None
        if known.dtype != bool and self.suggested is not None and len(hits):
            corrected = float((self.suggested[hits] == known[hits]).mean())
        return Recovery(
            rows=tuple(sorted(rows, key=lambda row: -row.auc)),
            by=self.by,
            wrong=count,
            n=len(wrong),
            estimated=self.estimated,
            precision=len(hits) / len(places),
            recall=len(hits) / count,
            corrected=corrected,
        )

    def _given(self) -> np.ndarray:
        if self.labels is None:
            raise InputError(
                "the given labels are not known, so true labels cannot be compared; pass booleans, or make "
                "the finding with the study."
            )
        return self.labels
