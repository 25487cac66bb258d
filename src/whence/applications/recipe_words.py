"""What a comparison of two recipes says: its sentences, table, chart and changed pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from whence.applications.feature_effects import Contrast, FeatureEffect, FeatureEffects
from whence.applications.residuals import Direction
from whence.finding import Chart, Examples, Series, Table

if TYPE_CHECKING:
    from whence.study import Study


def statement(names: tuple[str, str], directions: Sequence[Direction], null: Mapping[str, np.ndarray]) -> str:
    """What passed, or that nothing did."""
    against = (
        f"the largest gap of a recipe against itself, of {sum(map(len, null.values()))} comparisons, is "
    )
    largest = directions[0].largest_null
    parts = []
    for of in names:
        passing = [one for one in directions if one.passes and one.of == of]
        if passing:
            best = max(passing, key=lambda one: one.gap_other_half)
            parts.append(
                f"{of} leans on {len(passing)} direction{'s' * (len(passing) > 1)} that {best.against} leans "
                f"on less: component {best.number} holds {best.share:.1%} of {of}'s variance and "
                f"{best.share_against:.1%} of {best.against}'s"
            )
    if not parts:
        best = max(directions, key=lambda one: one.gap_other_half)
        return (
            f"Nothing found that {names[0]} and {names[1]} learn differently: the largest gap, measured on "
            f"the half that did not find it, is {best.gap_other_half:.1%} of the variance, "
            f"{against}{largest:.1%}"
        )
    return "; ".join([*parts, f"{against}{largest:.1%}"])


def table(directions: Sequence[Direction]) -> Table:
    """One row for each candidate."""
    columns = (
        "component", "share", "share of the other", "gap", "gap on the other half", "largest against itself",
        "match of halves", "passes",
    )  # fmt: skip
    rows = [
        (
            f"{one.of}, not {one.against}: {one.number}", one.share, one.share_against, one.gap,
            one.gap_other_half, one.largest_null, one.match, "yes" if one.passes else "no",
        )
        for one in directions
    ]  # fmt: skip
    return Table(columns, rows)


def chart(names: tuple[str, str], directions: Sequence[Direction]) -> Chart:
    """Shares of the one recipe's variance against those of the other's."""
    series = []
    for of in names:
        for passes, words in ((True, "passes"), (False, "does not pass")):
            mine = [one for one in directions if one.of == of and one.passes == passes]
            if not mine:
                continue
            flipped = of != names[0]
            ends = [
                (one.share_against, one.share) if flipped else (one.share, one.share_against) for one in mine
            ]
            labels = [f"component {one.number} of {of}" for one in mine]
            series.append(
                Series(f"of {of}, {words}", [x for x, _ in ends], [y for _, y in ends], labels=labels)
            )
    return Chart(
        "scatter",
        series,
        f"share of the variance of {names[0]}",
        f"share of the variance of {names[1]}",
        diagonal=True,
    )


def tested(effects: FeatureEffects, contrast: Contrast) -> str:
    """What a test of a suspected feature says of the two recipes."""
    one, other = (effects.row(name, contrast.transform) for name in (contrast.first, contrast.second))
    lead = {
        "distinguishes": f"{contrast.first} uses it, {contrast.second} does not",
        "does not": f"It does not tell {contrast.first} from {contrast.second}",
        "undecided": f"Whether {contrast.first} uses it and {contrast.second} does not is undecided",
    }[contrast.verdict]
    low = contrast.interval[0]
    times = f", at least {low:.1f} times as much" if np.isfinite(low) and low > 1 else ""
    return (
        f"{lead}: {contrast.transform} on {effects.targets:,} targets changes P({effects.class_name}) by "
        f"{_signed(one)} in {contrast.first}{times} and by {_signed(other)} in {contrast.second}"
    )


def _signed(row: FeatureEffect) -> str:
    return f"{row.effect:+.3f} ({row.interval[0]:+.3f} to {row.interval[1]:+.3f})"


def changed(effects: FeatureEffects, study: Study) -> list[Examples]:
    """Some targets before and after, where they are pictures."""
    if not study.is_image or "uint8" not in str(study.target_inputs.dtype):
        return []
    shown = list(effects.shown)
    strips = [Examples("Targets before the change", shown, "target")]
    for name, images in effects.changed.items():
        pictures = [image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image for image in images]
        strips.append(Examples(f"The same targets after {name}", shown, "target", pictures=pictures))
    return strips
