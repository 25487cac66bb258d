"""Does removing examples do what was said? Predicted against realised change after retraining without
them."""

from __future__ import annotations

import numpy as np

from whence.evaluate.counterfactual import Counterfactual
from whence.report import figures, numbers
from whence.report.block import Section, facts, figure_block, meaning_line, paragraph
from whence.report.context import Context
from whence.report.figures.counterfactual import words
from whence.report.html import Markup, table
from whence.report.sections.base import section
from whence.report.sections.finding import verified_badge


@section.register
def _(check: Counterfactual, context: Context) -> list[Section]:
    rows, agreed = check.rows, check.overall
    drawn = figures.removals(
        [row.kind for row in rows],
        [row.predicted for row in rows],
        [row.realised for row in rows],
        [row.realised_se for row in rows],
        [f"{target_words(context, row.target)}: {row.k} {words(row.kind)} removed" for row in rows],
        output=check.output,
        slope=agreed.slope,
        intercept=agreed.intercept,
        diagonal=check.calibrated,
    )
    listed = table(
        ["Target", "Removed", "k", "Predicted", "Realised", "± s.e."],
        [
            (
                target_words(context, row.target),
                words(row.kind),
                str(row.k),
                numbers.signed(row.predicted),
                numbers.signed(row.realised),
                numbers.fixed(row.realised_se),
            )
            for row in rows
        ],
        f"Change of the {check.output} after each removal",
    )
    right, aimed = right_direction(check)
    title = headline(check)
    kinds = ", ".join(f"{words(kind)} {numbers.fixed(one.spearman)}" for kind, one in check.by_kind.items())
    body = [
        verified_badge(verification(check)),
        paragraph(
            f"For {numbers.plural(check.targets, 'target')}, the most helpful, the most harmful and"
            " randomly drawn training examples were left out and the model was trained again. Sideways is"
            " what the weights said would happen to the target, upwards is what did."
        ),
        facts(
            [
                ("Spearman", numbers.estimate(agreed.spearman, agreed.spearman_interval)),
                ("Spearman within one kind", kinds if len(check.by_kind) > 1 else None),
                ("Pearson", numbers.estimate(agreed.pearson, agreed.pearson_interval)),
                (
                    "at most, given noise",
                    None if check.attainable is None else numbers.fixed(check.attainable),
                ),
                ("slope", numbers.estimate(agreed.slope, agreed.slope_interval)),
                ("right direction", f"{right} of {aimed}" if aimed else None),
            ]
        ),
        figure_block(
            drawn,
            alt=f"Scatter of predicted against realised change. {title}.",
            numbers=listed,
            caption=(
                "Bars are the standard error of the mean over retrainings. The solid line is the"
                " least-squares fit"
            )
            + (
                "; on the dotted line the realised change equals the predicted one."
                if check.calibrated
                else (
                    ". These predictions are right only up to scale, so the slope is a conversion of units."
                )
            ),
        ),
        meaning_line(context.attribution.meaning if context.attribution is not None else ""),
    ]
    question = "Does removing examples do what was predicted?"
    return [Section("check", "Check", question, title, Markup("".join(part for part in body if part)))]


def headline(check: Counterfactual) -> str:
    """How well the outcome agreed, in words that the number carries."""
    value = check.overall.spearman
    how = (
        "as predicted"
        if value >= 0.7
        else "roughly as predicted"
        if value >= 0.4
        else "little like predicted"
    )
    over = numbers.plural(len(check.rows), "removal")
    return (
        f"Retraining without the examples moved the {check.output} {how}: Spearman {numbers.fixed(value)}"
        f" over {over}"
    )


def right_direction(check: Counterfactual) -> tuple[int, int]:
    """How many aimed removals (not random ones) moved the output the way that was predicted, and of how
    many."""
    aimed = [row for row in check.rows if row.kind != "random" and row.predicted != 0]
    return sum(bool(np.sign(row.predicted) == np.sign(row.realised)) for row in aimed), len(aimed)


def verification(check: Counterfactual) -> str:
    """How the check was made, in words."""
    return (
        f"{numbers.plural(check.trained, 'fresh retraining')}: {check.retrainings} for each of "
        f"{numbers.plural(len(check.rows), 'removal')}, and {check.controls} on the full training set."
        + (
            f" {numbers.plural(check.failed, 'removal')} left out, their retrainings failed."
            if check.failed
            else ""
        )
    )


def target_words(context: Context, name: object) -> str:
    """A target's id, with its class where the study knows it."""
    if context.attribution is None:
        return str(name)
    ids = [str(other) for other in context.attribution.target_ids.tolist()]
    return context.target_title(ids.index(str(name))) if str(name) in ids else str(name)
