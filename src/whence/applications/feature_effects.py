"""What changing an image does to the probability of a class, in fresh models of one recipe or another.

Shah et al. 2023 (ModelDiff, arXiv 2211.12491), section 2: the effect of a transform F on recipe A is the mean
of ``p(class | F(x)) - p(class | x)`` over targets x and models of A; F is (delta, epsilon)-distinguishing if
it is at least delta for A and at most epsilon for B.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.intervals import mean_interval, student_quantile
from whence.evaluate.removals import check_retrainings, leave_out
from whence.evaluate.result import Result, table, with_interval
from whence.finding import Chart, Series, Table
from whence.study.variants import with_outputs, with_targets

if TYPE_CHECKING:
    from whence.study import Study

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FeatureEffect(Result):
    """Effect of one transform on one recipe: change of the probability of the class, its 95 % interval over
    models, the probability before, and the share of single models in which it is above 0."""

    recipe: str
    transform: str
    effect: float
    interval: tuple[float, float]
    before: float
    positive: float


@dataclass(frozen=True)
class Contrast(Result):
    """One transform under two recipes.

    `ratio` is of the size of the effects, infinite where the second is 0. `interval` of the ratio covers both
    effects at once (97.5 % each), so it is on the wide side of 95 %; its upper end is infinite where the
    second effect may be 0. `verdict` is "distinguishes" if the interval of the first effect lies wholly at
    `delta` or beyond and that of the second wholly within `epsilon`, "does not" if either lies wholly on the
    other side, else "undecided".
    """

    transform: str
    first: str
    second: str
    ratio: float
    interval: tuple[float, float]
    verdict: str
    delta: float
    epsilon: float


@dataclass(frozen=True)
class FeatureEffects(Result):
    """Effects of transforms (columns) on recipes (rows).

    Attributes
    ----------
    rows : one `FeatureEffect` for each transform of each recipe, in the order that they were given in.
    class_name : whose probability changes. retrainings : fresh models of each recipe, on the whole training
        set. targets : how many images were changed; intervals take them as they are.
    outputs : recipe -> ``(models, transforms)`` mean change over targets.
    changed : transform -> changed images of a few targets. shown : their positions in the study.
    """

    rows: tuple[FeatureEffect, ...]
    class_name: str
    targets: int
    retrainings: int
    outputs: Mapping[str, np.ndarray] = field(repr=False, compare=False)
    changed: Mapping[str, np.ndarray] = field(repr=False, compare=False)
    shown: tuple[int, ...] = ()

    @property
    def recipes(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    @property
    def transforms(self) -> tuple[str, ...]:
        return tuple(self.changed)

    def row(self, recipe: str, transform: str) -> FeatureEffect:
        """The effect of a transform on a recipe."""
        for row in self.rows:
            if (row.recipe, row.transform) == (recipe, transform):
                return row
        raise InputError(
            f"there is no effect of {transform!r} on {recipe!r}; transforms are {', '.join(self.transforms)} "
            f"and recipes {', '.join(self.recipes)}."
        )

    def contrast(
        self, first: str, second: str, transform: str, delta: float = 0.05, epsilon: float = 0.01
    ) -> Contrast:
        """Whether a transform moves the first recipe and not the second; `delta` and `epsilon` are changes of
        probability."""
        if not 0 <= epsilon <= delta <= 1:
            raise InputError(
                f"delta={delta} and epsilon={epsilon}, but 0 <= epsilon <= delta <= 1 must hold."
            )
        one, other = self.row(first, transform), self.row(second, transform)
        empty = math.nan if one.effect == 0 else math.inf
        ratio = empty if other.effect == 0 else abs(one.effect / other.effect)
        at = self.transforms.index(transform)
        (low_1, high_1), (low_2, high_2) = (
            _sizes(self.outputs[name][:, at], 0.9875) for name in (first, second)
        )
        interval = (
            math.inf if high_2 == 0 < low_1 else 0.0 if high_2 == 0 else low_1 / high_2,
            math.inf if low_2 == 0 else high_1 / low_2,
        )
        (low_1, high_1), (low_2, high_2) = (
            _sizes(self.outputs[name][:, at], 0.975) for name in (first, second)
        )
        verdict = "undecided"
        if low_1 >= delta and high_2 <= epsilon:
            verdict = "distinguishes"
        elif high_1 < delta or low_2 > epsilon:
            verdict = "does not"
        return Contrast(transform, first, second, ratio, interval, verdict, delta, epsilon)

    def steps(self, recipe: str) -> list[tuple[float, tuple[float, float]]]:
        """From each transform to the next one, how much the effect grows, with its 95 % interval over the
        models, which saw both."""
        values = self.outputs[self.row(recipe, self.transforms[0]).recipe]
        return [mean_interval(values[:, at] - values[:, at - 1]) for at in range(1, values.shape[1])]

    def table(self) -> Table:
        """One row for each transform of each recipe."""
        columns = ("recipe", "change", f"P({self.class_name}) before", "effect", "95 %", "models above 0")
        rows = [
            (
                row.recipe,
                row.transform,
                row.before,
                row.effect,
                f"{row.interval[0]:+.3f} to {row.interval[1]:+.3f}",
                f"{row.positive:.0%}",
            )
            for row in self.rows
        ]
        return Table(columns, rows)

    def chart(self) -> Chart:
        """Bars of effects: a group for each transform, a colour for each recipe."""
        series = []
        for recipe in self.recipes:
            mine = [self.row(recipe, name) for name in self.transforms]
            low, high = ([row.interval[end] for row in mine] for end in (0, 1))
            series.append(Series(recipe, list(self.transforms), [row.effect for row in mine], low, high))
        return Chart("bars", series, "change of the image", f"change of P({self.class_name})")

    def __str__(self) -> str:
        cells = [(r.recipe, r.transform, with_interval(r.effect, r.interval)) for r in self.rows]
        return (
            f"Change of P({self.class_name})\n"
            + table(("recipe", "change", "effect"), cells)
            + f"\n{self.targets:,} targets, {self.retrainings} fresh models of each recipe"
        )


SHOWN = 8  # changed images that are kept


def feature_effects(
    studies: Mapping[str, Study],
    transforms: Change | Sequence[Change] | Mapping[str, Change],
    label: int | str,
    *,
    targets: Sequence[Any] | None = None,
    retrainings: int = 50,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> FeatureEffects:
    """Change of a class's probability when target images are changed, in fresh models of each recipe.

    The same models see the images unchanged and under every transform, so that effects are paired; give
    several sizes or strengths of one change, or recipes of several strengths, for a dose response.

    Parameters
    ----------
    studies : name -> Study, with the same targets.
    transforms : functions of images (or whatever the inputs are) that return as many of the same shape and
        dtype: one, several, or a mapping that names them. Without names they go by
        ``__name__`` or ``str``.
    label : the class whose probability is asked for, by label or name.
    targets : ids of the targets to change; default all but those of the class.
    retrainings : fresh seeds for each recipe, at least 2, on the whole training set.
    to : folder that keeps the retrainings, one bank for each recipe; default a temporary one.
    seed, workers, progress : as in `whence.retrain`.

    Raises
    ------
    InputError : a study without labelled inputs, other targets, an unknown class, a transform that returns
        another shape or changes nothing.
    """
    check_retrainings(retrainings)
    if not studies:
        raise InputError("studies is empty; pass at least one, by name.")
    named = _named(transforms)
    for name, study in studies.items():
        if study.target_inputs is None or study.target_labels is None:
            raise InputError(f"{name} ({study!r}) has no labelled inputs that could be changed.")
    study = next(iter(studies.values()))
    wanted = _label(study, label)
    chosen = _chosen(study, wanted, targets)
    before = np.asarray(study.target_inputs)[chosen]
    changed = {name: _apply(name, change, before) for name, change in named.items()}
    stacked = np.concatenate([before, *changed.values()])
    outputs, rows, plain = {}, [], {}
    questions = {}
    for name, one in studies.items():
        theirs = _same_inputs(one, study, chosen, name)
        asked = with_targets(theirs, (_like(stacked, one), np.full(len(stacked), wanted)))
        questions[name] = with_outputs(asked, ["probability"])
    for number, (name, asked) in enumerate(questions.items()):
        found = leave_out(
            asked, [[]], retrainings, "probability", seed=seed,
            to=None if to is None else Path(to) / f"{number}.zarr", workers=workers, progress=progress,
        )[0].reshape(-1, 1 + len(changed), len(chosen))  # fmt: skip
        if len(found) < 2:
            raise InputError(
                f"fewer than 2 of {retrainings} retrainings of {name} gave finite outputs; mend the recipe."
            )
        mean = found.mean(2)
        plain[name], outputs[name] = float(mean[:, 0].mean()), mean[:, 1:] - mean[:, :1]
        for at, transform in enumerate(changed):
            effect, interval = mean_interval(outputs[name][:, at])
            positive = float((outputs[name][:, at] > 0).mean())
            rows.append(FeatureEffect(name, transform, effect, interval, plain[name], positive))
    words = study.classes[wanted] if study.classes else f"class {wanted}"
    shown = np.unique(np.linspace(0, len(chosen) - 1, SHOWN).astype(int))  # from all over, so of all classes
    kept = {name: images[shown] for name, images in changed.items()}
    return FeatureEffects(
        tuple(rows), words, len(chosen), retrainings, outputs, kept, tuple(chosen[shown].tolist())
    )


def _named(transforms: Any) -> dict[str, Change]:
    if isinstance(transforms, Mapping):
        named = {str(name): change for name, change in transforms.items()}
    else:
        listed = list(transforms) if isinstance(transforms, Sequence) else [transforms]
        named = {_name(change): change for change in listed}
        if len(named) < len(listed):
            raise InputError("two transforms have the same name; pass them as a mapping from names.")
    wrong = [name for name, change in named.items() if not callable(change)]
    if wrong or not named:
        raise InputError(
            f"transforms must be functions of images, received {wrong[0]!r}." if wrong else
            "transforms is empty; pass at least one function of images."
        )  # fmt: skip
    return named


def _name(change: Any) -> str:
    plain = getattr(change, "__name__", None)
    return str(plain) if plain else str(change)


def _label(study: Study, label: int | str) -> int:
    names, count = study.classes or [], study.class_count or 0
    if isinstance(label, str):
        if label not in names:
            known = f"classes are {', '.join(names)}" if names else "classes have no names; pass a number"
            raise InputError(f"there is no class {label!r}; {known}.")
        return names.index(label)
    if not 0 <= int(label) < count:
        raise InputError(f"label is {label}, but labels run from 0 to {count - 1}.")
    return int(label)


def _chosen(study: Study, label: int, targets: Sequence[Any] | None) -> np.ndarray:
    if targets is None:
        chosen = np.flatnonzero(np.asarray(study.target_labels) != label)
        if not len(chosen):
            raise InputError("all targets are of the class itself; name those to change in targets.")
        return chosen
    place = {identity: i for i, identity in enumerate(study.target_ids.tolist())}
    unknown = [one for one in targets if one not in place]
    if unknown or not len(targets):
        raise InputError(
            f"the study has no target {unknown[0]!r}." if unknown else "targets names no target."
        )
    return np.array([place[one] for one in targets])


def _apply(name: str, change: Change, images: np.ndarray) -> np.ndarray:
    changed = np.asarray(change(images.copy()))
    if changed.shape != images.shape or changed.dtype != images.dtype:
        raise InputError(
            f"{name} returned {changed.dtype} of shape {changed.shape} for {images.dtype} of shape "
            f"{images.shape}; a transform keeps both."
        )
    if np.array_equal(changed, images):
        raise InputError(f"{name} left all {len(images)} targets as they are, so there is nothing to test.")
    return changed


def _same_inputs(one: Study, study: Study, chosen: np.ndarray, name: str) -> Study:
    """`one`, if its targets at these ids look the same as those of the first study."""
    place = {identity: i for i, identity in enumerate(one.target_ids.tolist())}
    ids = study.target_ids[chosen].tolist()
    at = [place[identity] for identity in ids if identity in place]
    if len(at) < len(ids) or not np.array_equal(
        np.asarray(one.target_inputs)[at], np.asarray(study.target_inputs)[chosen]
    ):
        raise InputError(f"{name} has other targets than the first study; recipes are compared on the same.")
    if one.class_count != study.class_count or (one.classes or study.classes) != (
        study.classes or one.classes
    ):
        raise InputError(f"{name} has other classes than the first study.")
    return one


def _like(stacked: np.ndarray, study: Study) -> Any:
    """An array where the study's inputs are one, a tensor where they are tensors."""
    if isinstance(study.target_inputs, np.ndarray):
        return stacked
    import torch

    return torch.as_tensor(stacked)


def _sizes(values: np.ndarray, level: float) -> tuple[float, float]:
    """Smallest and largest |mean| in the interval of a mean; 0 where the interval holds it."""
    mean = float(values.mean())
    half = student_quantile(len(values) - 1, level) * float(values.std(ddof=1)) / math.sqrt(len(values))
    low, high = mean - half, mean + half
    return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
