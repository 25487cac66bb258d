"""What a search for leaks found: pairs, and how they fare against known duplicates, a person, retraining."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.planting import Pair
from whence.applications.suspicion import average_precision
from whence.errors import InputError
from whence.evaluate.intervals import mean_interval, wilson
from whence.evaluate.removals import (
    check_retrainings,
    check_same_study,
    columns_in,
    leave_out,
    random_of_same_classes,
    rows_in,
)
from whence.evaluate.result import Result

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

LEAST = 0.8  # suspicion of the pairs that `verify` removes


@dataclass(frozen=True)
class Suspect(Result):
    """A pair that may show the same thing.

    `weight` and `similarity` are those of the attributions (None where there was no similarity); `same_class`
    is None without labels. `target_place` and `train_place` are positions in the attribution.
    """

    target: Any
    train: Any
    suspicion: float
    weight: float
    similarity: float | None
    same_class: bool | None
    target_place: int
    train_place: int


@dataclass(frozen=True)
class Detection(Result):
    """How well known duplicates are found.

    `average_precision` is of the ranking of all (target, training example) pairs, by evidence and kind ("all"
    for all kinds together); duplicates of other kinds are left out of a kind's ranking. `precision` and
    `recall` are of the pairs with a suspicion of `least` or more.
    """

    average_precision: dict[str, dict[str, float]]
    precision: float | None
    recall: float
    least: float
    duplicates: int


@dataclass(frozen=True)
class Judged(Result):
    """A person's answers: `same` of `pairs` show the same thing (95 % interval of that share), in `targets`
    targets; `expected` is the mean suspicion of the pairs, to be compared with that share."""

    pairs: int
    same: int
    expected: float
    interval: tuple[float, float]
    targets: int
    confirmed: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Leakage(Applied):
    """Pairs of targets and training examples, most suspicious first.

    Attributes
    ----------
    suspects : the pairs. evidence : name ("datamodel", "similarity", "both") -> (targets, train) extremity
        of every pair, as `whence.applications.suspicion` has it.
    change : after `verify`, mean change of the suspected targets' output when all suspects are removed, its
        95 % interval over targets, and the same for as many random examples of the same classes.
    """

    suspects: tuple[Suspect, ...] = ()
    change: dict[str, Any] | None = None
    attribution: Attribution = field(repr=False, compare=False, kw_only=True)
    similarity: Attribution | None = field(repr=False, compare=False, default=None)
    evidence: Mapping[str, np.ndarray] = field(repr=False, compare=False, default_factory=dict)

    def verify(
        self,
        study: Study,
        least: float = LEAST,
        retrainings: int = 20,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Leakage:
        """Remove the training examples of all pairs with a suspicion of `least` or more at once, retrain, and
        compare the suspected targets' output with that after training on everything, and after removing as
        many random examples of the same classes.

        Costs three times `retrainings`. A model that had remembered the duplicates loses what it owed to
        them.
        """
        output = check_same_study(self.attribution, study)
        check_retrainings(retrainings)
        chosen = [one for one in self.suspects if one.suspicion >= least]
        if not chosen:
            raise InputError(f"no pair has a suspicion of {least:g} or more, so there is nothing to remove.")
        columns, rows = columns_in(self.attribution, study), rows_in(self.attribution, study)
        gone = np.unique([columns[one.train_place] for one in chosen])
        hit = np.unique([rows[one.target_place] for one in chosen])
        rng = np.random.default_rng(seed)
        others = random_of_same_classes(study, gone, rng)
        full, without, random = (
            part[:, hit]
            for part in leave_out(
                study, [[], gone.tolist(), others.tolist()], retrainings, output,
                seed=seed, to=to, workers=workers, progress=progress,
            )
        )  # fmt: skip
        fell, chance = (_mean_interval(part.mean(0) - full.mean(0)) for part in (without, random))
        change = {
            "removed": len(gone), "targets": len(hit), "retrainings": retrainings,
            "suspects": fell, "random": chance,
        }  # fmt: skip
        sentence = (
            f"without the {len(gone)} suspected training examples the mean {output} of their {len(hit)} "
            f"targets changes by {_words(fell)}, without {len(gone)} random ones of the same classes by "
            f"{_words(chance)} ({retrainings} fresh retrainings of each)"
        )
        return replace(self, verified=sentence, change=change)

    def against(self, duplicates: Iterable[Pair], least: float = LEAST) -> Detection:
        """Precision and recall on known duplicates (planted ones, or found by `best_matches`).

        Pairs name positions in the attribution.
        """
        known = list(duplicates)
        shape = self.attribution.shape
        if not known or any(not (0 <= p.target < shape[0] and 0 <= p.train < shape[1]) for p in known):
            raise InputError(
                f"duplicates must name at least one pair, of targets below {shape[0]} and training examples "
                f"below {shape[1]}."
            )
        kinds = {
            "all": known,
            **{kind: [p for p in known if p.kind == kind] for kind in {p.kind for p in known}},
        }
        table = {
            name: {kind: _score(score, pairs, known) for kind, pairs in sorted(kinds.items())}
            for name, score in self.evidence.items()
        }
        true = {(p.target, p.train) for p in known}
        called = {(s.target_place, s.train_place) for s in self.suspects if s.suspicion >= least}
        return Detection(
            average_precision=table,
            precision=len(true & called) / len(called) if called else None,
            recall=len(true & called) / len(true),
            least=least,
            duplicates=len(true),
        )

    def judge(self, answers: Mapping[str, Any] | str | os.PathLike[str]) -> Judged:
        """What a person said of the pairs: the answers that a report's page saved, or the path of that file.

        ``{"pairs": [{"target": id, "train": id, "same": true}, ...]}``
        """
        given = (
            answers if isinstance(answers, Mapping) else json.loads(Path(answers).read_text(encoding="utf-8"))
        )
        rows = given.get("pairs") if isinstance(given, Mapping) else None
        if not isinstance(rows, list) or not all({"target", "train", "same"} <= set(row) for row in rows):
            raise InputError(
                "answers must be what the report saves: "
                "{'pairs': [{'target': id, 'train': id, 'same': true}]}."
            )
        said = {(str(row["target"]), str(row["train"])): bool(row["same"]) for row in rows}
        seen = [
            (one, said[key]) for one in self.suspects if (key := (str(one.target), str(one.train))) in said
        ]
        if not seen:
            raise InputError(f"none of the {len(rows)} answers is about a pair of this finding.")
        same = [one for one, yes in seen if yes]
        return Judged(
            pairs=len(seen),
            same=len(same),
            expected=float(np.mean([one.suspicion for one, _ in seen])),
            interval=wilson(len(same), len(seen)),
            targets=len({one.target for one in same}),
            confirmed=tuple((one.target, one.train) for one in same),
        )


def _score(score: np.ndarray, pairs: Sequence[Pair], known: Sequence[Pair]) -> float:
    """Average precision of one kind, the other kinds' pairs taken out."""
    positive, counted = np.zeros(score.shape, bool), np.ones(score.shape, bool)
    for pair in known:
        counted[pair.target, pair.train] = False
    for pair in pairs:
        positive[pair.target, pair.train] = counted[pair.target, pair.train] = True
    return average_precision(score[counted], positive[counted])


def _mean_interval(change: np.ndarray) -> dict[str, float]:
    """Mean over targets and its 95 % interval by their spread."""
    if len(change) < 2:
        return {"mean": float(change.mean()), "low": -np.inf, "high": np.inf}
    mean, (low, high) = mean_interval(change)
    return {"mean": mean, "low": low, "high": high}


def _words(change: Mapping[str, float]) -> str:
    interval = f" [{change['low']:+.2f}, {change['high']:+.2f}]" if np.isfinite(change["low"]) else ""
    return f"{change['mean']:+.2f}{interval}"
