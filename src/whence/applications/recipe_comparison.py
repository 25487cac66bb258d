"""What a comparison of two recipes found: components, their pictures, and two tests by retraining."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.causal import Pull, pulls
from whence.applications.components import Components, unit_rows
from whence.applications.feature_effects import Change, Contrast, FeatureEffects, feature_effects
from whence.applications.halves import Halves
from whence.applications.recipe_words import changed, chart, statement, table, tested
from whence.applications.residuals import Direction
from whence.errors import InputError
from whence.evaluate.removals import columns_in, rows_in
from whence.finding import Examples, Table

if TYPE_CHECKING:
    from whence.study import Study

SHOWN = 8  # examples in a strip
STRIPS = 3  # components of a direction with pictures


@dataclass(frozen=True)
class RecipeComparison(Applied):
    """Components of what each of two recipes has beyond the other.

    Attributes
    ----------
    names : of the recipes. directions : one `Direction` for each candidate, those of the first recipe first.
    passed : the directions that pass. null : recipe -> the largest gap of each comparison of two halves.
    components : recipe -> `Components` of its residual; projections are of its own unit rows ``(t, r)``.
    pulls : after `verify`, (recipe, what removing training examples did to it), both for each component.
    effects, contrasts : after `test`, effects of the transforms, and what they say of the two recipes.
    """

    names: tuple[str, str] = ("A", "B")
    directions: tuple[Direction, ...] = ()
    null: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pulls: tuple[tuple[str, Pull], ...] = ()
    effects: FeatureEffects | None = None
    contrasts: tuple[Contrast, ...] = ()
    components: Mapping[str, Components] = field(repr=False, compare=False, kw_only=True)
    weight: Mapping[str, np.ndarray] = field(repr=False, compare=False, kw_only=True)
    a: Halves = field(repr=False, compare=False, kw_only=True)
    b: Halves = field(repr=False, compare=False, kw_only=True)
    places: tuple[np.ndarray, np.ndarray] = field(repr=False, compare=False, kw_only=True)

    @property
    def passed(self) -> tuple[Direction, ...]:
        return tuple(one for one in self.directions if one.passes)

    def direction(self, of: str, number: int = 0) -> Direction:
        """Component `number` of what recipe `of` has beyond the other."""
        for one in self.directions:
            if (one.of, one.number) == (of, number):
                return one
        count = len(self.directions) // 2
        raise InputError(
            f"there is no component {number} of {of!r}; recipes are {self.names[0]} and {self.names[1]}, "
            f"components 0 to {count - 1}."
        )

    def surfaced(self, of: str, number: int = 0, end: str = "upper", k: int = SHOWN) -> dict[str, np.ndarray]:
        """The subpopulation at the "upper" or "lower" end of a component: positions of ``k`` targets and of
        ``k`` training examples in the study (in the attribution, where no study was passed), most extreme
        first."""
        self.direction(of, number)
        if end not in ("upper", "lower"):
            raise InputError(f"end is {end!r}; it is 'upper' or 'lower'.")
        sign, found = (1 if end == "upper" else -1), self.components[of]
        sides = found.projections[:, number], found.directions[number]
        return {
            name: place[_end(sign * values, k)]
            for name, values, place in zip(("targets", "train"), sides, self.places, strict=True)
        }

    def strips(self, of: str, number: int = 0) -> list[Examples]:
        """Targets and training examples at both ends of a component; under each target how far its row lies
        along it in either recipe, under each training example its part in the direction."""
        one, found = self.direction(of, number), self.components[of]
        other = unit_rows(self.weight[one.against])[0] @ found.directions[number]
        mine, line = found.projections[:, number], found.directions[number]
        rows, columns = self.places
        strips = []
        for sign, end in ((1, "upper"), (-1, "lower")):
            targets, train = _end(sign * mine), _end(sign * line)
            name = f"{of}, not {one.against}: component {number}, {end} end"
            strips += [
                Examples(
                    f"{name}: targets, by how far their weights lie along it",
                    rows[targets].tolist(),
                    "target",
                    [f"{of} {mine[i]:+.2f}, {one.against} {other[i]:+.2f}" for i in targets],
                ),
                Examples(
                    f"{name}: training examples that they lean on",
                    columns[train].tolist(),
                    "train",
                    [f"{line[i]:+.3f}" for i in train],
                ),
            ]
        return strips

    def verify(
        self,
        study: Study,
        other: Study,
        *,
        remove: int | None = None,
        ends: int | None = None,
        retrainings: int = 20,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> RecipeComparison:
        """Remove the training examples at either end of each component that passed, retrain both recipes, and
        see whether the two ends of the targets move apart in the one and less so in the other.

        Parameters
        ----------
        study, other : of the first and of the second recipe.
        remove, ends, retrainings, seed : as in `Embedding.verify`, for each recipe.
        to : folder that keeps the retrainings; default a temporary one.

        Raises
        ------
        InputError : nothing passed; another study's attribution; sets that are too large.
        """
        if not self.passed:
            raise InputError("no component passed, so there is nothing to verify.")
        found = []
        sides = dict(zip(self.names, ((self.a.whole, study), (self.b.whole, other)), strict=True))
        for of in self.names:
            numbers = [one.number for one in self.passed if one.of == of][:STRIPS]
            for name, (attribution, mine) in sides.items() if numbers else ():
                kept = (
                    None if to is None else Path(to) / f"{self.names.index(of)}-{self.names.index(name)}.zarr"
                )
                moved = pulls(
                    attribution, self._in_order_of(name, of), mine, numbers, remove, ends, retrainings, seed,
                    kept, workers, progress,
                )  # fmt: skip
                found += [(of, name, pull) for pull in moved]
        rows = [
            (
                f"{of} {pull.component}", pull.end, pull.removed, name, pull.apart,
                f"{pull.interval[0]:+.3f} to {pull.interval[1]:+.3f}",
            )
            for of, name, pull in found
        ]  # fmt: skip
        aimed = [(of, name, pull) for of, name, pull in found if pull.end != "random"]
        own = [pull for of, name, pull in aimed if of == name]
        less = sum(
            abs(pull.apart) > abs(twin.apart)
            for pull, twin in zip(own, [p for of, name, p in aimed if of != name], strict=True)
        )
        verified = (
            f"{own[0].removed} training examples at either end of {len(own) // 2} "
            f"component{'s' * (len(own) > 2)} removed in {retrainings} fresh retrainings of each recipe: the "
            f"two ends of the targets moved apart as predicted in {sum(p.as_predicted for p in own)} of "
            f"{len(own)} removals (95 % intervals exclude 0), in {less} of them further than in the other "
            "recipe"
        )
        columns = ("component", "removed end", "removed", "recipe", "ends apart by", "95 %")
        return replace(
            self,
            verified=verified,
            table=Table(columns, rows),
            pulls=tuple((name, pull) for _, name, pull in found),
        )

    def _in_order_of(self, name: str, of: str) -> Components:
        """Components of `of`, in the order of the attribution of `name`."""
        found, reference = self.components[of], self.a.whole
        if name == self.names[0]:
            return found
        theirs = self.b.whole
        columns, rows = reference.train_index(theirs.train_ids), reference.target_index(theirs.target_ids)
        return replace(found, directions=found.directions[:, columns], projections=found.projections[rows])

    def test(
        self,
        transforms: Change | Sequence[Change] | Mapping[str, Change],
        study: Study,
        other: Study,
        label: int | str,
        *,
        used_by: str | None = None,
        delta: float = 0.05,
        epsilon: float = 0.01,
        targets: Sequence[Any] | None = None,
        retrainings: int = 50,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> RecipeComparison:
        """Test a suspected feature: change target images and see what fresh models of both recipes say.

        Parameters
        ----------
        transforms : the feature as a change of images (`whence.applications.transforms`, or a function of
            images); several, weakest first, for a dose response. The last one is what the sentence is about.
        study, other : of the first and of the second recipe.
        label : the class whose probability should change, by label or name.
        used_by : name of the recipe that should react (default the first).
        delta, epsilon : the feature distinguishes the recipes if it changes the probability by `delta` or
            more in the one and by `epsilon` or less in the other.
        targets, retrainings, seed, to, workers, progress : as in `feature_effects`.
        """
        first = self.names[0] if used_by is None else used_by
        if first not in self.names:
            raise InputError(f"used_by is {used_by!r}, but the recipes are {' and '.join(self.names)}.")
        second = next(name for name in self.names if name != first)
        studies = dict(zip(self.names, (study, other), strict=True))
        effects = feature_effects(
            studies, transforms, label, targets=targets, retrainings=retrainings, seed=seed, to=to,
            workers=workers, progress=progress,
        )  # fmt: skip
        contrasts = [effects.contrast(first, second, name, delta, epsilon) for name in effects.transforms]
        return replace(
            self,
            statement=tested(effects, contrasts[-1]),
            verified="; ".join(
                [
                    *([self.verified] if self.verified and self.effects is None else []),
                    f"{effects.targets:,} targets changed and shown to {retrainings} fresh models of each "
                    "recipe, trained on the whole training set (95 % intervals over models)",
                ]
            ),
            table=effects.table(),
            chart=effects.chart(),
            examples=[*self.examples, *changed(effects, study)],
            effects=effects,
            contrasts=tuple(contrasts),
        )


def finding(
    names: tuple[str, str], a: Halves, b: Halves, directions: Sequence[Direction],
    components: Mapping[str, Components], weight: Mapping[str, np.ndarray], null: Mapping[str, np.ndarray],
    study_a: Study | None, study_b: Study | None,
) -> RecipeComparison:  # fmt: skip
    """The comparison in words, table, chart and pictures."""
    if study_a is None:
        places = np.arange(a.whole.shape[0]), np.arange(a.whole.shape[-1])
    else:
        places = rows_in(a.whole, study_a), columns_in(a.whole, study_a)
    found = RecipeComparison(
        title=f"What {names[0]} and {names[1]} learn differently",
        statement=statement(names, directions, null),
        table=table(directions),
        chart=chart(names, directions),
        meaning=(
            "A component is a direction over the training examples along which the targets of one recipe "
            "differ from each other. Its share is of the variance of the targets' weights, each target's "
            f"scaled to length 1. {a.whole.meaning}"
        ),
        provenance={
            "methods": [a.whole.method, b.whole.method],
            "studies": [side.whole.provenance.get("study") for side in (a, b)],
            "splits into halves": len(a.pairs),
            "targets without weights in a recipe": max(one.silent for one in components.values()),
            "data compared": study_a is not None,
        },
        names=names,
        directions=tuple(directions),
        null={name: tuple(map(float, values)) for name, values in null.items()},
        components=dict(components),
        weight=dict(weight),
        a=a,
        b=b,
        places=places,
    )
    shown = [one for of in names for one in [d for d in found.passed if d.of == of][:STRIPS]]
    return replace(found, examples=[strip for one in shown for strip in found.strips(one.of, one.number)])


def _end(values: np.ndarray, k: int = SHOWN) -> np.ndarray:
    """Positions of the largest values, none of which is also among the smallest."""
    return np.argsort(-values, kind="stable")[: min(k, len(values) // 2)]
