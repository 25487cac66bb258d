"""Removing a group by retraining: what its members lose, what others lose, what an attack loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.intervals import mean_interval, welch
from whence.evaluate.removals import leave_out, random_of_same_classes
from whence.evaluate.result import Result
from whence.study.variants import with_outputs

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


@dataclass(frozen=True)
class Change(Result):
    """Mean output of some targets, trained on everything and without a set, with 95 % intervals over
    retrainings.

    right : for margins, shares of the targets with a positive one, before and after.
    """

    targets: str
    count: int
    before: float
    after: float
    change: float
    interval: tuple[float, float]
    right: tuple[float, float] | None = None


@dataclass(frozen=True)
class Removal(Result):
    """What removing a group did.

    Attributes
    ----------
    removed : examples. retrainings : of each training set.
    changes : without the group, of the members themselves (where they are targets), of the other targets of
        their classes, of the other classes.
    control : the same without as many random examples of the same classes; "the members themselves" are then
        the random ones.
    attack : with triggered targets, share of successes before and after, each mean and 95 % interval over
        retrainings.
    """

    removed: int
    retrainings: int
    changes: tuple[Change, ...]
    control: tuple[Change, ...]
    attack: dict[str, tuple[float, tuple[float, float]]] | None = None


def remove(
    attribution: Attribution,
    study: Study,
    ids: Sequence[Any],
    triggered: Study | None,
    retrainings: int,
    seed: int,
    to: Path | None,
    workers: int | None,
    progress: bool,
) -> Removal:
    """Train on everything, without the examples `ids`, and without random ones of the same classes."""
    output = attribution.output
    for what, one in (("study", study), ("triggered", triggered)):
        if one is not None and set(one.train_ids.tolist()) != set(attribution.train_ids.tolist()):
            raise InputError(
                f"{what} has other training examples than the attribution weighs; pass one with the same "
                "training set."
            )
    if output not in study.outputs:
        raise InputError(
            f"attribution explains {output!r}, but the study records {', '.join(map(repr, study.outputs))}."
        )
    wanted = None if triggered is None else with_outputs(triggered, ("margin_max",))
    gone = _positions(study, ids)
    others = random_of_same_classes(study, gone, np.random.default_rng(seed))
    options: dict[str, Any] = {"seed": seed, "workers": workers, "progress": progress}
    full, without, random = leave_out(
        study, [[], gone.tolist(), others.tolist()], retrainings, output,
        to=None if to is None else to / "removed.zarr", **options,
    )  # fmt: skip
    attack = None
    if wanted is not None:
        parts = leave_out(
            wanted, [[], _positions(wanted, ids).tolist()], retrainings, "margin_max",
            to=None if to is None else to / "triggered.zarr", **options,
        )  # fmt: skip
        attack = {
            when: mean_interval((part > 0).mean(1))
            for when, part in zip(("before", "after"), parts, strict=True)
        }
    return Removal(
        removed=len(gone),
        retrainings=retrainings,
        changes=_changes(study, output, gone, full, without),
        control=_changes(study, output, others, full, random),
        attack=attack,
    )


def describe(found: Removal, output: str) -> str:
    """The removal in a sentence or two."""
    mine, random = (
        next((c for c in side if c.targets == MEMBERS), None) for side in (found.changes, found.control)
    )
    parts = []
    if mine is not None and random is not None:
        parts.append(
            f"without the {found.removed} members their own mean {output} changes by {_words(mine)}, where "
            f"{found.removed} random examples of the same classes, left out together, change by "
            f"{_words(random)}"
        )
    parts += [f"{c.targets}: {_words(c)}" for c in found.changes if c.targets != MEMBERS]
    sentence = "; ".join(parts) + f" ({found.retrainings} fresh retrainings of each training set)"
    if found.attack is not None:
        (before, _), (after, (low, high)) = found.attack["before"], found.attack["after"]
        sentence += (
            f"; the attack succeeds on {before:.1%} of the triggered targets before and on {after:.1%} "
            f"[{max(low, 0):.1%}, {min(high, 1):.1%}] after"
        )
    return sentence


MEMBERS = "the removed examples themselves"


def _changes(
    study: Study,
    output: str,
    gone: np.ndarray,
    full: np.ndarray,
    without: np.ndarray,
) -> tuple[Change, ...]:
    """Targets by what they have to do with the removed examples."""
    removed = set(study.train_ids[gone].tolist())
    own = np.array([identity in removed for identity in study.target_ids.tolist()])
    sides = [(MEMBERS, own)]
    if study.train_labels is None or study.target_labels is None:
        sides.append(("other targets", ~own))
    else:
        same = np.isin(study.target_labels, study.train_labels[gone])
        sides += [("other targets of their class", same & ~own), ("targets of other classes", ~same & ~own)]
    found = []
    for name, chosen in sides:
        if not chosen.any():
            continue
        before, after = full[:, chosen], without[:, chosen]
        change, interval = welch(after.mean(1), before.mean(1))
        right = None
        if output in ("margin", "margin_max"):
            right = (float((before > 0).mean()), float((after > 0).mean()))
        found.append(
            Change(
                targets=name,
                count=int(chosen.sum()),
                before=float(before.mean()),
                after=float(after.mean()),
                change=change,
                interval=interval,
                right=right,
            )
        )
    return tuple(found)


def _positions(study: Study, ids: Sequence[Any]) -> np.ndarray:
    """Where training examples of these ids stand in the study."""
    place = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    return np.array([place[identity] for identity in ids])


def _words(change: Change) -> str:
    low, high = change.interval
    right = (
        "" if change.right is None else f", right {change.right[0]:.1%} before, {change.right[1]:.1%} after"
    )
    return f"{change.change:+.2f} [{low:+.2f}, {high:+.2f}]{right}"
