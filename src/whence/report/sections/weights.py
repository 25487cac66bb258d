"""How are the weights distributed? All of them, and how few carry most of the effect."""

from __future__ import annotations

import numpy as np

from whence.attribution import Attribution
from whence.report import figures, numbers
from whence.report.block import Section, facts, figure_block, meaning_line
from whence.report.context import Context
from whence.report.figures.weights import cumulative_shares, summary
from whence.report.html import Markup, table, tag


def weights_section(scores: Attribution, context: Context) -> Section:
    """Histogram of all non-zero weights and the concentration curve."""
    weight = context.weight
    values = weight[weight != 0]
    quantiles = [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]
    listed = (
        [
            (numbers.percent(q, 1).replace(".0\u00a0", "\u00a0"), numbers.significant(float(v), 3))
            for q, v in zip(quantiles, np.quantile(values, quantiles))
        ]
        if values.size
        else []
    )
    shares = np.median(cumulative_shares(weight), axis=0)
    strongest = [
        (k, numbers.percent(float(shares[k - 1])))
        for k in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
        if k <= weight.shape[1]
    ]
    error = scores.standard_error
    body = [
        facts(
            [
                ("targets", numbers.count(weight.shape[0])),
                ("training examples", numbers.count(weight.shape[1])),
                ("exactly zero", numbers.percent(float((weight == 0).mean()), 1)),
                ("strongest raise", numbers.signed(float(weight.max()))),
                ("strongest lower", numbers.signed(float(weight.min()))),
                (
                    "median standard error",
                    None if error is None else numbers.significant(float(np.median(error))),
                ),
            ]
        ),
        tag(
            "div",
            figure_block(
                figures.weight_histogram(weight, scores.units),
                alt=f"Histogram of {values.size:,} non-zero weights on a logarithmic count.",
                caption="All non-zero weights of all targets, on a logarithmic count.",
                numbers=(
                    table(["Quantile", "Weight"], listed, "Quantiles of the non-zero weights")
                    if listed
                    else None
                ),
            ),
            figure_block(
                figures.concentration(weight),
                alt=f"Cumulative share of absolute weight. {summary(weight)}.",
                caption=(
                    "Share of a target's absolute weight in its strongest examples: median and middle half"
                    " of the targets."
                ),
                numbers=table(["Strongest examples", "Share"], strongest, "Median share of absolute weight"),
            ),
            class_="pair",
        ),
        meaning_line(scores.meaning),
    ]
    return Section(
        "weights",
        "Weights",
        "How are the weights distributed?",
        summary(weight),
        Markup("".join(b for b in body if b)),
    )
