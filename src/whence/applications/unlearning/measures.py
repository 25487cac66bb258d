"""Every measure of unlearning at once, and the words, table and figure that a certificate shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.applications.unlearning.challenge import Challenge, challenge_score
from whence.applications.unlearning.klom import DIRECTION, KLoM, klom, suggest_bins
from whence.applications.unlearning.outputs import PARTS, Part
from whence.applications.unlearning.sides import Summary
from whence.applications.unlearning.ulira import ULiRA, ulira
from whence.evaluate.result import Result
from whence.finding import Chart, Series, Table

WITHIN = 0.2  # nats above its floor that a 95th percentile may lie and still be called at the floor

NOT_COVERED = (
    "other forget sets, seeds and settings than these, for each of which the comparison is to be made again",
    "points that were not compared",
    "what several points say together, for every measure looks at one point at a time",
    "what is read from weights and hidden layers, or comes back by training on",
    "stronger attacks than these",
    "copies and near-duplicates of the forgotten examples that stay in the training set, and whatever else "
    "was computed from them (attributions, other models, backups)",
)


@dataclass(frozen=True)
class Measures(Result):
    """How unlearned models compare with models retrained without the forget set.

    Attributes
    ----------
    klom : "forget", "retain", "validation" -> `KLoM`. before : the same of the models before unlearning;
        empty where they were not passed.
    ulira, challenge : the attack and the challenge score at the forget points. ulira_before : the attack
        on the models before unlearning.
    accuracy : part -> (of unlearned models, of oracles).
    cost, attribution_cost : as shares of one retraining.
    """

    klom: Mapping[str, KLoM]
    before: Mapping[str, KLoM]
    ulira: ULiRA
    ulira_before: ULiRA | None
    challenge: Challenge
    accuracy: Mapping[str, tuple[float, float]]
    cost: float
    attribution_cost: float | None

    def at_the_floor(self, part: str) -> bool:
        """Whether the 95th percentile of KLoM is within 0.2 nats of its floor, at the floor's size."""
        return self.klom[part].excess <= WITHIN


def measure(
    parts: Mapping[str, Part], cost: float, attribution_cost: float | None, bins: int | None, seed: int
) -> Measures:
    """Of checked parts."""
    bins = suggest_bins(min(_smallest(part) for part in parts.values())) if bins is None else bins

    def distance(part: Part, margins: np.ndarray) -> KLoM:
        return klom(margins, part.oracles.margin, oracles_again=part.again, bins=bins, seed=seed)

    def attacked(part: Part, margins: np.ndarray) -> ULiRA:
        return ulira(margins, part.oracles.margin, oracles_again=part.again, seed=seed)

    accuracy = {name: (parts[name].unlearned.accuracy, parts[name].oracles.accuracy) for name in PARTS}
    forget = parts["forget"]
    return Measures(
        klom={name: distance(parts[name], parts[name].unlearned.margin) for name in PARTS},
        before={
            name: distance(parts[name], side.margin)
            for name in PARTS
            if (side := parts[name].before) is not None
        },
        ulira=attacked(forget, forget.unlearned.margin),
        ulira_before=None if forget.before is None else attacked(forget, forget.before.margin),
        challenge=challenge_score(
            forget.unlearned.margin,
            forget.oracles.margin,
            retain_accuracy=accuracy["retain"],
            test_accuracy=accuracy["validation"],
            oracles_again=forget.again,
            seed=seed,
        ),
        accuracy=accuracy,
        cost=float(cost),
        attribution_cost=None if attribution_cost is None else float(attribution_cost),
    )


def _smallest(part: Part) -> int:
    """Models in the smallest set of any comparison; without a second set the oracles are halved."""
    sides = [part.unlearned] + ([] if part.before is None else [part.before])
    oracles = len(part.oracles.margin)
    return min(*(len(side.margin) for side in sides), oracles // 2 if part.again is None else len(part.again))


# --- What is shown of them ---


def statement(method: str, forgotten: int, found: Measures) -> str:
    """One sentence."""
    forget = found.klom["forget"]
    was = f", {found.before['forget'].at_floor_size.p95:.2f} before" if "forget" in found.before else ""
    kept = [name for name in ("retain", "validation") if found.at_the_floor(name)]
    away = [name for name in ("retain", "validation") if not found.at_the_floor(name)]
    rest = f"{' and '.join(kept)} points are within {WITHIN} of theirs" if kept else ""
    if away:
        rest += "; " * bool(kept) + " and ".join(
            f"{name} points are {found.klom[name].excess:.2f} above theirs" for name in away
        )
    paid = "" if found.attribution_cost is None else f", its attribution {share(found.attribution_cost)}"
    return (
        f"{forgotten:,} training example{'s' * (forgotten > 1)} forgotten by {method}: the 95th percentile "
        f"of {DIRECTION} on them is {forget.at_floor_size.p95:.2f}, with a floor of {forget.floor.p95:.2f} "
        f"between oracles{was}; {rest}; an attack is right in {found.ulira.at_floor_size:.0%} "
        f"({found.ulira.floor:.0%} between oracles). Unlearning took {share(found.cost)} of one "
        f"retraining{paid}"
    )


def share(value: float) -> str:
    """A cost in words: "0.8 %", from ten retrainings on "12 times"."""
    return f"{value:.0f} times" if value >= 10 else f"{100 * value:.3g} %"


def table(found: Measures) -> Table:
    """Every measure with its floor, the size of the floor, and its value at that size."""
    columns = (
        "measure", "points", "unlearned", "95 %", "as many models as the floor", "floor",
        "models of the floor", "before, as many",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for name in PARTS:
        distance = found.klom[name]
        size = " and ".join(map(str, distance.floor_models))
        was = found.before.get(name)
        for words, pick in (("P95", _p95), ("mean", _mean)):
            value, interval = pick(distance.forward)
            rows.append(
                (
                    f"{words} of {DIRECTION}", name, value, _range(interval), pick(distance.at_floor_size)[0],
                    pick(distance.floor)[0], size, None if was is None else pick(was.at_floor_size)[0],
                )
            )  # fmt: skip
    attack, score = found.ulira, found.challenge
    before = None if found.ulira_before is None else found.ulira_before.at_floor_size
    size = " and ".join(map(str, attack.floor_models))
    rows.append(
        (
            "U-LiRA accuracy", "forget", attack.accuracy, _range(attack.interval), attack.at_floor_size,
            attack.floor, size, before,
        )
    )  # fmt: skip
    rows.append(
        (
            "forget quality of the challenge", "forget", score.forget_quality, None, score.at_floor_size,
            score.oracle_quality, size, None,
        )
    )  # fmt: skip
    rows.append(("challenge score", "all", score.score, None, None, None, None, None))
    for name, (unlearned, oracle) in found.accuracy.items():
        rows.append(("accuracy (floor: of the oracles)", name, unlearned, None, None, oracle, None, None))
    rows.append(("cost, in retrainings", None, found.cost, None, None, None, None, None))
    if found.attribution_cost is not None:
        rows.append(
            ("attribution, in retrainings", None, found.attribution_cost, None, None, None, None, None)
        )
    return Table(columns, rows)


def chart(found: Measures) -> Chart:
    """95th percentiles of KLoM, all of as many models as the floor's."""
    names = list(PARTS)
    series = [_bars("unlearned", names, [found.klom[name].at_floor_size for name in names])]
    if found.before:
        known = [name for name in names if name in found.before]
        series.insert(0, _bars("before", known, [found.before[name].at_floor_size for name in known]))
    series.append(_bars("floor (other oracles)", names, [found.klom[name].floor for name in names]))
    return Chart("bars", series, "points", f"95th percentile of {DIRECTION}, nats")


def meaning(found: Measures, part_sizes: Mapping[str, int], training: int) -> str:
    """What the numbers mean and what they do not cover."""
    one = found.klom["forget"]
    sizes = ", ".join(f"{count:,} {name}" for name, count in part_sizes.items())
    return (
        f"KLoM is the divergence of the margins' histograms ({one.bins} bins) at a point, in nats: 0 where "
        "unlearned models and models retrained without the forget set are alike, 11.5 at most. The floor is "
        f"the same between two sets of retrained models ({one.floor_from}). U-LiRA is 0.5 where nothing can "
        "be told apart. On the forget points the oracles' accuracy is what to reach; lower is no better. "
        f"Compared: {sizes} points, of {training:,} training examples. Not covered: {'; '.join(NOT_COVERED)}."
    )


def _p95(summary: Summary) -> tuple[float, tuple[float, float] | None]:
    return summary.p95, summary.p95_interval


def _mean(summary: Summary) -> tuple[float, tuple[float, float] | None]:
    return summary.mean, summary.mean_interval


def _range(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _bars(name: str, parts: list[str], summaries: list[Summary]) -> Series:
    heights = [summary.p95 for summary in summaries]
    ends = [summary.p95_interval for summary in summaries]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return Series(name, parts, heights)
    return Series(name, parts, heights, low=[end[0] for end in known], high=[end[1] for end in known])
