"""Do predictions match? Predicted against realised outputs for held-out masks, pooled and target by
target."""

from __future__ import annotations

import numpy as np

from whence.attribution import Attribution
from whence.evaluate.correlation import correlations
from whence.evaluate.prediction import prediction_error
from whence.report import figures, numbers
from whence.report.block import Section, figure_block, paragraph
from whence.report.context import Context
from whence.report.figures.prediction import correlation_note
from whence.report.html import Markup, table

_MOST_POINTS = 1200


def prediction_sections(scores: Attribution, context: Context) -> list[Section]:
    """A scatter over all targets, and one for each chosen target, from the held-out part of the bank."""
    if context.held_out is None or scores.weight.ndim != 2:
        return []
    held, predicted = context.held_out
    realised, seeds, masks = held.means, held.seeds, len(held.masks)
    error = held.outputs.std(axis=1, ddof=1) / np.sqrt(seeds) if seeds > 1 else None
    drawn, rows = {}, []
    centred_p, centred_r = predicted - predicted.mean(axis=0), realised - realised.mean(axis=0)
    # The pooled cloud is thinned evenly, never chosen, and its numbers come from all points.
    step = -(-centred_p.size // _MOST_POINTS)
    note = correlation_note(
        spearman(centred_p.ravel(), centred_r.ravel()),
        pearson(centred_p.ravel(), centred_r.ravel()),
        centred_p.size,
        "points",
    )
    drawn["All targets, each around its own mean"] = figures.prediction(
        centred_p.ravel()[::step],
        centred_r.ravel()[::step],
        output=f"{scores.output}, less the target's mean",
        note=note,
        diagonal=scores.calibrated,
    )
    for row in context.rows:
        rank, linear = (
            spearman(predicted[:, row], realised[:, row]),
            pearson(predicted[:, row], realised[:, row]),
        )
        title = context.target_title(row)
        drawn[title] = figures.prediction(
            predicted[:, row],
            realised[:, row],
            None if error is None else error[:, row],
            output=scores.output,
            note=correlation_note(rank, linear, masks, "masks"),
            diagonal=scores.calibrated,
        )
        rows.append(
            (
                title,
                numbers.fixed(rank),
                numbers.fixed(linear),
                numbers.fixed(predicted[:, row].std()),
                numbers.fixed(realised[:, row].std()),
            )
        )
    r = pearson(centred_p.ravel(), centred_r.ravel())
    slope = float((centred_p * centred_r).sum() / max(float((centred_p**2).sum()), 1e-30))
    told = f"Predictions and retrainings never seen correlate at {numbers.fixed(r)}"
    if scores.calibrated:
        told += f"; a predicted difference of 1 comes out as {numbers.fixed(slope)}"
    explained = prediction_error(scores, context.bank, bootstrap=0).explained if scores.calibrated else None
    caption = (
        f"Each point is one held-out mask; realised is the mean of {numbers.plural(seeds, 'retraining')}"
        + (", with the standard error over its seeds." if seeds > 1 else ".")
        + (
            " The pooled view shows an even thinning of the points; its correlations use all of them."
            if step > 1
            else ""
        )
        + (
            ""
            if scores.calibrated
            else " These predictions are right only up to scale, so only the order along the axes counts."
        )
    )
    share = ""
    if explained is not None and explained > 0:
        share = (
            f" They explain {numbers.percent(explained)} of the variance that seed noise leaves to explain."
        )
    elif explained is not None:
        share = (
            " Taken as amounts they swing too widely: each target's plain mean would have been nearer. Read"
            " their order."
        )
    body = [
        paragraph(
            f"None of these {masks:,} training subsets was used to fit or to choose anything. Choose a"
            " target to see its own retrainings." + share
        ),
        figure_block(
            drawn,
            alt=f"Scatter of predicted against realised {scores.output} on held-out masks. {told}.",
            caption=caption,
            choose="Target",
            numbers=table(
                ["Target", "Spearman", "Pearson", "Spread predicted", "Spread realised"],
                rows,
                "Held-out correlation of each chosen target",
            ),
        ),
    ]
    return [
        Section(
            "prediction",
            "Predictions",
            "Do predictions match retrainings never seen?",
            told,
            Markup("".join(body)),
        )
    ]


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two vectors."""
    return float(correlations(a[:, None], b[:, None], "pearson")[0])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two vectors."""
    return float(correlations(a[:, None], b[:, None], "spearman")[0])
