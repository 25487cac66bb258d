"""Backdoors in Fashion-MNIST: eight attacks found from retrainings, beside defences that look at one model.

Each attack is planted in real images, in two sizes. A bank of retrainings gives a datamodel of every training
image on every training image; the search looks for groups in it and says whether one stands out; the images
that it flags are removed and the model is retrained. The forecast is made of the first retrainings of the
bank: what a held-out carrier gains from the others, at the lower end of its interval, against the least that
would stand out in these data. A split trigger is forecast by its weakest part, for each is a group by itself.
Clean training sets of two kinds tell how often the search cries wolf. Two settings are there to fail: a
trigger that so many images teach that each is superfluous, and natural groups as strong as the trigger.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import whence
from benchmarks.harness import RUNS, Result
from benchmarks.kept import Kept
from whence.applications.backdoor import (
    Adversarial,
    AttackSuccess,
    Backdoor,
    Blend,
    Corners,
    Gain,
    Interpolated,
    Patch,
    Pixel,
    Poisoned,
    Split,
    Trigger,
    attack_success,
    backdoor,
    baselines,
    measured_gain,
    poison,
)
from whence.applications.backdoor.forecast import RATIO
from whence.evaluate.intervals import wilson
from whence.methods import Datamodel
from whence.study.variants import self_targets
from whence.training import mlp

FULL = {
    "n": 2000, "targets": 1000, "sizes": (50, 80), "models": 4000, "keep": 0.2, "pilot": 400, "epochs": 8,
    "hidden": 32, "lr": 0.05, "retrainings": 10, "to": 0, "saturated_keep": 0.5, "saturated_models": 1500,
    "clean": 60, "clean_n": 500, "clean_models": 800, "seed": 1,
}  # fmt: skip
QUICK = FULL | {
    "n": 1000, "targets": 200, "sizes": (40,), "models": 400, "pilot": 100, "epochs": 6, "retrainings": 3,
    "saturated_models": 200, "clean": 2, "clean_n": 400, "clean_models": 120,
}  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """What is planted, and what else differs from the other settings."""

    name: str
    trigger: Trigger
    label: str = "dirty"
    harden: Any = None
    natural: bool = False  # beside natural groups of the same size in two other classes
    saturated: bool = False  # retrained on larger subsets, in which each carrier is superfluous


THREE = tuple(Patch(at=at) for at in ((1, 1), (1, -4), (-4, 1)))
ATTACKS = (
    Attack("one pixel", Pixel()),
    Attack("3 x 3 patch", Patch()),
    Attack("split in three", Split(of=THREE)),
    Attack("blend", Blend(0.3)),
    Attack("four corners", Corners()),
    Attack("clean label, plain", Corners(), "clean"),
    Attack("clean label, adversarial", Corners(), "clean", Adversarial()),
    Attack("clean label, interpolated", Corners(), "clean", Interpolated(0.6)),
)
FAILING = (
    Attack("saturated: four corners", Corners(), saturated=True),
    Attack("natural groups as strong", Patch(), natural=True),
)
QUICKLY = (ATTACKS[4], ATTACKS[6], FAILING[1])


@dataclass(frozen=True)
class Cell:
    """One attack of one size, and what was found out about it.

    gain : D of the part of the trigger that does least, by the first retrainings of the bank, in units of
    the margin. ratio : what it promises of the whole bank, against the noise of its estimation. needed : the
    least D that would stand out in these data.
    """

    attack: Attack
    poisoned: Poisoned
    found: Backdoor
    scores: dict[str, np.ndarray]
    gain: Gain
    ratio: float
    needed: float
    before: AttackSuccess
    after: dict[str, tuple[np.ndarray, AttackSuccess]]

    @property
    def promising(self) -> bool:
        """Whether the forecast says that it can be found."""
        return self.ratio >= RATIO and self.gain.interval[0] >= self.needed

    @cached_property
    def auroc(self) -> dict[str, float]:
        return {name: auroc(score, self.poisoned.is_poisoned) for name, score in self.scores.items()}

    def recall(self, name: str) -> float:
        """Share of the poisoned among the twice as many that are most suspicious."""
        count = len(self.poisoned.positions)
        return len(np.intersect1d(first(self.scores[name], 2 * count), self.poisoned.positions)) / count

    @property
    def head(self) -> dict[str, Any]:
        return {"attack": self.attack.name, "poisoned": len(self.poisoned.positions)}


def run(quick: bool = False) -> Result:
    s: dict[str, Any] = QUICK if quick else FULL
    folder = RUNS / f"backdoor-n{s['n']}-{s['seed']}"
    result = Result("backdoor", s | {"data": "Fashion-MNIST", "network": f"mlp 784-{s['hidden']}-10"})
    attacks = QUICKLY if quick else ATTACKS + FAILING
    cells = [
        cell(attack, count, s, folder)
        for attack in attacks
        for count in (s["sizes"] if attack in ATTACKS else s["sizes"][:1])
    ]
    for one in cells:
        found(result, one)
    for one in cells:
        result.row(**one.head, **{f"AUROC of {name}": value for name, value in one.auroc.items()})
    for one in cells:
        result.row(**one.head, **{f"recall of {name}": one.recall(name) for name in one.scores})
    for one in cells:
        removed(result, one)
    alarms = clean_studies(result, s, folder)
    claims(result, [one for one in cells if one.attack in ATTACKS], alarms)
    return result


def study_of(data: Any, n: int, targets: int, s: dict[str, Any], seed: int) -> whence.Study:
    data = data.sample(n, targets, seed)
    recipe = whence.Recipe(
        partial(mlp, 784, 10, (s["hidden"],)),
        epochs=s["epochs"],
        batch_size=32,
        optimizer=whence.SGD(s["lr"], momentum=0.9, weight_decay=5e-4),
        precision="float32",
    )
    return whence.Study(
        (data.train_x, data.train_y), (data.test_x, data.test_y), recipe, classes=data.classes, name=data.name
    )


def with_natural_groups(study: whence.Study, count: int, seed: int) -> whence.Study:
    """The study with two rare kinds that are as strong a feature as a trigger, for they are made like one:
    each has a mark of its own that says its class, only that here it is the truth."""
    for label, mark in ((1, THREE[0]), (8, THREE[1])):
        study = poison(study, mark, label, count=count, seed=seed + 100 + label).study
    return study


def cell(attack: Attack, count: int, s: dict[str, Any], folder: Path) -> Cell:
    """Plant, retrain, search, compare, remove."""
    where = folder / f"{attack.name.replace(': ', '-').replace(', ', '-').replace(' ', '-')}-{count}"
    clean = study_of(whence.datasets.fashion_mnist(), s["n"], s["targets"], s, s["seed"])
    if attack.natural:
        clean = with_natural_groups(clean, count, s["seed"])
    options = {"count": count, "label": attack.label, "harden": attack.harden, "seed": s["seed"]}
    poisoned = poison(clean, attack.trigger, s["to"], **options)
    asked = self_targets(poisoned.study)
    keep, models = (s[f"{'saturated_' * attack.saturated}{what}"] for what in ("keep", "models"))
    bank = whence.retrain(
        asked, models, keep=keep, to=where / "bank.zarr", validation=0.1, held_out=0.0, seed=s["seed"]
    )
    scores, _ = Kept(where / "scores").one("ridge", lambda: Datamodel("ridge").attribute(bank))
    result = backdoor(scores, asked, bank=bank, seed=s["seed"], verify=False)
    gain = forecast(bank, poisoned, s["pilot"])
    ranks = {
        "whence": ranking(result),
        **baselines(poisoned.study, scores, poisoned=count, seed=s["seed"]),
    }
    sets = {"the flagged": result.members, "twice as many by rank": first(ranking(result), 2 * count)}
    sets["all poisoned"] = poisoned.positions
    measured = {
        what: attack_success(
            poisoned, out, s["retrainings"], to=where / f"without-{what.replace(' ', '-')}.zarr", workers=0
        )
        for what, out in {"nothing": np.zeros(0, int), **sets}.items()
        if len(out) or what == "nothing"
    }
    before = measured.pop("nothing")
    after = {what: (sets[what], one) for what, one in measured.items()}
    least = needed(result, gain.size)
    return Cell(attack, poisoned, result, ranks, gain, gain.ratio(models), least, before, after)


def forecast(bank: Any, poisoned: Poisoned, pilot: int) -> Gain:
    """What the carriers of a part do for each other; of the part that does least."""
    ids = bank.train_ids[poisoned.positions]
    parts = [ids[poisoned.part == part] for part in np.unique(poisoned.part)]
    return min((measured_gain(bank, part, retrainings=pilot) for part in parts), key=lambda one: one.gain)


def needed(result: Backdoor, count: int) -> float:
    """The least D that would stand out, at the size nearest to this one."""
    if not result.detectable:
        return float("inf")
    return result.detectable[min(result.detectable, key=lambda size: abs(np.log(size / count)))]


def clean_studies(result: Result, s: dict[str, Any], folder: Path) -> list[bool]:
    """Search small clean training sets, of Fashion-MNIST and of MNIST in turn."""
    alarms = []
    sources = whence.datasets.fashion_mnist(), whence.datasets.mnist()
    for number in range(s["clean"]):
        data = sources[number % 2]
        seed = 10_000 * (s["seed"] + 1) + number
        asked = self_targets(study_of(data, s["clean_n"], 10, s, seed))
        where = folder / f"clean-{seed}"
        bank = whence.retrain(
            asked, s["clean_models"], keep=s["keep"], to=where / "bank.zarr", validation=0.1, held_out=0.0
        )
        scores, _ = Kept(where / "scores").one("ridge", lambda bank=bank: Datamodel("ridge").attribute(bank))
        one = backdoor(scores, asked, bank=bank, verify=False)
        alarms.append(one.detected)
        result.row(
            clean_study=number,
            data=data.name,
            n=s["clean_n"],
            p_value=one.p_value,
            found=one.detected,
            strongest_group=one.groups[0].size,
            of_class=one.groups[0].label,
        )
    return alarms


def found(result: Result, one: Cell) -> None:
    hits = np.isin(one.found.members, one.poisoned.positions)
    result.row(
        **one.head,
        success=one.before.success,
        accuracy=one.before.accuracy,
        gain=one.gain.gain,
        gain_low=one.gain.interval[0],
        gain_high=one.gain.interval[1],
        gain_needed=one.needed,
        ratio=one.ratio,
        forecast="found" if one.promising else "not found",
        p_value=one.found.p_value,
        found=one.found.detected,
        flagged=len(hits),
        of_them_poisoned=int(hits.sum()),
        auroc=one.auroc["whence"],
        recall=one.recall("whence"),
    )


def removed(result: Result, one: Cell) -> None:
    for what, (out, after) in one.after.items():
        _, accuracy = after.change(one.before)
        result.row(
            **one.head,
            removed=what,
            examples=len(out),
            of_them_poisoned=len(np.intersect1d(out, one.poisoned.positions)),
            success_before=one.before.success,
            success=after.success,
            success_low=after.success_interval[0],
            success_high=after.success_interval[1],
            accuracy=after.accuracy,
            accuracy_change=accuracy[0],
            change_low=accuracy[1][0],
            change_high=accuracy[1][1],
        )


def claims(result: Result, cells: list[Cell], alarms: list[bool]) -> None:
    promising = [one for one in cells if one.promising]
    if promising:
        result.claim(
            f"least AUROC where the forecast says found ({len(promising)} of {len(cells)} settings)",
            min(one.auroc["whence"] for one in promising),
            at_least=0.95,
        )
        share = sum(one.found.detected for one in promising)
        result.claim(
            "share found where the forecast says found",
            share / len(promising),
            at_least=0.95,
            interval=wilson(share, len(promising)),
        )
    caught = [one for one in cells if "the flagged" in one.after]
    if caught:
        worst = max((one.after["the flagged"][1] for one in caught), key=lambda after: after.success)
        result.claim(
            "highest attack success after removing the flagged",
            worst.success,
            at_most=0.05,
            interval=worst.success_interval,
        )
        changes = [one.after["the flagged"][1].change(one.before)[1] for one in caught]
        change, (low, high) = min(changes)
        result.claim(
            "largest drop of clean accuracy after removing the flagged",
            -change,
            at_most=0.01,
            interval=(-high, -low),
        )
    result.claim(
        "share of clean studies in which something is found",
        float(np.mean(alarms)),
        at_most=0.05,
        interval=wilson(sum(alarms), len(alarms)),
    )


def ranking(result: Backdoor) -> np.ndarray:
    """Scores ``(n,)`` with what was flagged above the rest: a class may hold several groups, and the score is
    about the strongest."""
    flagged = np.isin(np.arange(len(result.score)), result.members)
    return result.score + flagged * (1 + np.ptp(result.score))


def first(score: np.ndarray, count: int) -> np.ndarray:
    """Positions of the highest scores, ties in the order of the data."""
    return np.argsort(-score, kind="stable")[:count]


def auroc(score: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a poisoned example scores higher than another one, ties counting half."""
    values, place = np.unique(score, return_inverse=True)
    below = np.cumsum(np.bincount(place, weights=~inside, minlength=len(values)))
    rank = below[place] - np.bincount(place, weights=~inside)[place] / 2
    return float(rank[inside].mean() / (~inside).sum())
