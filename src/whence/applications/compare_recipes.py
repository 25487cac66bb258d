"""What one training recipe learns that another does not, on the same training set and targets.

Shah et al. 2023 (ModelDiff, arXiv 2211.12491): principal components of what the weights of one recipe hold
beyond those of the other. What halves of the retrainings do not find again, or what a recipe also shows
against itself, is not called a difference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.halves import Halves, check_alike, weights_in_order
from whence.applications.recipe_comparison import RecipeComparison, finding
from whence.applications.residuals import (
    Direction,
    gaps,
    null_gaps,
    replicate,
    residual_components,
    shares,
)
from whence.errors import InputError
from whence.evaluate.removals import check_retrainings, check_same_study

if TYPE_CHECKING:
    from whence.study import Study

LEAST_MATCH = 0.5  # |cosine| of the components of two halves


def compare_recipes(
    a: Halves,
    b: Halves,
    study_a: Study | None = None,
    study_b: Study | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    components: int = 10,
    retrainings: int = 20,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> RecipeComparison:
    """Directions over the training examples that targets lean on under one recipe and not under the other.

    Rows are scaled to length 1; of each row of one recipe its projection on the same target's row of the
    other is taken off; the principal components of what remains are the candidates, in both directions. A
    component passes if disjoint halves of the retrainings find it again (|cosine| above 0.5), and if the gap
    between its shares of the two recipes' variance, measured on the half that did not find it, is larger than
    any gap that either recipe shows between its own two halves. There the directions come from the halves of
    the other recipe, so that what is measured did not choose them either: between two recipes that are alike,
    both gaps have one distribution.

    Parameters
    ----------
    a, b : the recipes' attributions with those of halves of their retrainings, ``Halves.of(method, bank)``;
        with as many splits each. With a single split two recipes that are alike pass in a few of a hundred
        comparisons; with four or more it did not happen in simulations.
    study_a, study_b : what was trained. Both must have the same training examples and targets, which is
        checked by ids, labels and inputs; another order is put right. Give labels and pictures, and verify.
    names : of the recipes, for people.
    components : candidates in each direction.
    verify : with studies, and where something passed, remove training examples and retrain both recipes.
    retrainings, seed, to, workers, progress : as in `RecipeComparison.verify`.

    Raises
    ------
    InputError : other training examples, targets, labels or inputs; another study's attribution; another
        output; numbers of splits that differ; attributions that do not differ at all; fewer targets with
        weights than components.
    """
    if len(set(names)) != 2 or not all(str(name).strip() for name in names):
        raise InputError(f"names is {names!r}, but it must be two different names.")
    check_alike(b.whole, a.whole, names[1], names[0])
    if len(a.pairs) != len(b.pairs):
        raise InputError(
            f"{names[0]} is split into halves in {len(a.pairs)} ways and {names[1]} in {len(b.pairs)}; split "
            "both as often."
        )
    if (study_a is None) != (study_b is None):
        raise InputError("one study is missing; pass both recipes' studies, or neither.")
    if study_a is not None and study_b is not None:
        check_retrainings(retrainings)
        check_same_study(a.whole, study_a)
        check_same_study(b.whole, study_b)
        check_same_data(study_a, study_b, names)
    reference = a.whole
    weight = {name: weights_in_order(side.whole, reference) for name, side in zip(names, (a, b), strict=True)}
    pairs = {
        name: [
            (weights_in_order(one, reference), weights_in_order(other, reference))
            for one, other in side.pairs
        ]
        for name, side in zip(names, (a, b), strict=True)
    }
    found = {
        of: residual_components(weight[of], weight[against], components)
        for of, against in (names, names[::-1])
    }
    nulls: dict[str, Any] = {
        name: null_gaps(pairs[name], pairs[other], components) for name, other in (names, names[::-1])
    }
    largest = float(max(values.max() for values in nulls.values()))
    directions = []
    for of, against in (names, names[::-1]):
        lines = found[of].directions
        match, held_out = replicate(lines, pairs[of], pairs[against])
        share, against_share = shares(weight[of], lines), shares(weight[against], lines)
        gap = gaps(weight[of], weight[against], lines)
        directions += [
            Direction(
                of, against, j, float(share[j]), float(against_share[j]), float(gap[j]), float(held_out[j]),
                largest, float(match[j]), bool(match[j] > LEAST_MATCH and held_out[j] > largest),
            )
            for j in range(components)
        ]  # fmt: skip
    comparison = finding(names, a, b, directions, found, weight, nulls, study_a, study_b)
    if study_a is None or study_b is None or not verify or not comparison.passed:
        return comparison
    return comparison.verify(
        study_a, study_b, retrainings=retrainings, seed=seed, to=to, workers=workers, progress=progress
    )


def check_same_data(one: Study, other: Study, names: tuple[str, str]) -> None:
    """That two studies have the same training examples and targets: ids, labels and inputs, in any order."""
    for side, words in (("train", "training examples"), ("target", "targets")):
        mine, theirs = (getattr(study, f"{side}_ids").tolist() for study in (one, other))
        odd = set(mine) ^ set(theirs)
        if odd:
            raise InputError(
                f"{names[0]} and {names[1]} have different {words} ({len(mine)} and {len(theirs)}; only one "
                f"has {min(map(str, odd))!r}); recipes are compared on the same ones."
            )
        place = {identity: i for i, identity in enumerate(theirs)}
        order = np.array([place[identity] for identity in mine])
        for what in ("labels", "inputs"):
            first, second = (getattr(study, f"{side}_{what}") for study in (one, other))
            if (first is None) != (second is None):
                raise InputError(f"only one of {names[0]} and {names[1]} has {what} of {words}.")
            if first is None:
                continue
            first, second = np.asarray(first), np.asarray(second)[order]
            if first.shape != second.shape or first.dtype != second.dtype:
                raise InputError(
                    f"{what} of {words} are {first.dtype} of shape {first.shape} in {names[0]} and "
                    f"{second.dtype} of shape {second.shape} in {names[1]}; recipes are compared on the same."
                )
            differ = np.flatnonzero((first != second).reshape(len(first), -1).any(1))
            if len(differ):
                raise InputError(
                    f"{what} of {len(differ)} {words} differ between {names[0]} and {names[1]}, the first "
                    f"with id {mine[differ[0]]!r}; recipes are compared on the same ones (if only the order "
                    f"differs, give each example an id that stays its own)."
                )
