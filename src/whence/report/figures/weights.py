"""How weights are distributed: their histogram, and how few of them carry most of the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whence.report.figures.theme import colour, figure, label
from whence.report.numbers import percent, significant

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def weight_histogram(weight: np.ndarray, units: str = "") -> Figure:
    """Histogram of all non-zero weights on a logarithmic count, negative and positive in their own
    colours."""
    values = np.asarray(weight, np.float64).ravel()
    values = values[values != 0]
    reach = float(np.abs(values).max()) if len(values) else 1.0
    edges = np.linspace(
        -reach, reach, 62
    )  # an odd number of bins has one centred on zero; an even number divides there
    edges = edges if len(edges) % 2 else np.linspace(-reach, reach, 63)
    counts, edges = np.histogram(values, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    top = max(int(counts.max(initial=1)), 2)
    powers = list(range(int(np.ceil(np.log10(top))) + 1))
    fig = figure(
        320,
        x={
            "title": {"text": f"weight ({units})" if units else "weight"},
            "nticks": 8,
            "range": [-reach * 1.03, reach * 1.03],
        },
        y={
            "type": "log",
            "title": {"text": "number of weights"},
            "range": [-0.25, np.log10(top) + 0.5],
            "tickvals": [10**p for p in powers],
            "ticktext": [f"{10**p:,}" for p in powers],
        },
        margin={"t": 10, "b": 50},
    )
    for sign, role, name in ((-1, "warm", "lower the output"), (1, "accent", "raise the output")):
        chosen = (np.sign(centres) == sign) & (counts > 0)
        fig.add_bar(
            x=np.round(centres[chosen], 6).tolist(),
            y=counts[chosen].tolist(),
            width=float(np.diff(edges)[0] * 0.9),
            marker={"color": colour(role)},
            name=name,
            hovertemplate="weight about %{x:.3f}<br>%{y:,} weights<extra></extra>",
        )
    for sign, role, word in ((-1, "warm", "lowers"), (1, "accent", "raises")):
        number = int((np.sign(values) == sign).sum())
        label(
            fig,
            f"<b>{word}</b>  {number:,}",
            x=0.5 + 0.5 * sign,
            xref="paper",
            y=1,
            yref="paper",
            yanchor="top",
            xanchor="right" if sign > 0 else "left",
            xshift=-6 * sign,
            font={"color": colour(role)},
        )
    return fig


def concentration(weight: np.ndarray) -> Figure:
    """Share of a target's total absolute weight in its strongest examples: median and middle half over
    targets."""
    shares = cumulative_shares(weight)
    n = shares.shape[1]
    at = np.unique(np.round(np.geomspace(1, n, 60)).astype(int))
    low, middle, high = np.quantile(shares[:, at - 1], [0.25, 0.5, 0.75], axis=0)
    half = int(np.argmax(np.median(shares, axis=0) >= 0.5)) + 1
    ticks = [10**p for p in range(int(np.log10(n)) + 1)]
    fig = figure(
        320,
        x={
            "type": "log",
            "title": {"text": "strongest training examples"},
            "tickvals": ticks,
            "ticktext": [f"{t:,}" for t in ticks],
            "range": [0, np.log10(n)],
        },
        y={
            "title": {"text": "share of absolute weight"},
            "range": [0, 1.04],
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "ticktext": ["0", "25 %", "50 %", "75 %", "100 %"],
            "nticks": 6,
        },
        margin={"t": 10, "b": 50},
    )
    fig.add_scatter(
        x=at.tolist() + at[::-1].tolist(),
        y=np.round(np.r_[high, low[::-1]], 4).tolist(),
        fill="toself",
        fillcolor=colour("accent_band"),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )
    fig.add_scatter(
        x=at.tolist(),
        y=np.round(middle, 4).tolist(),
        mode="lines",
        line={"color": colour("accent"), "width": 2.4},
        hovertemplate="%{x:,} strongest<br>%{y:.0%} of the weight<extra></extra>",
    )
    fig.add_scatter(
        x=[half],
        y=[float(np.median(shares, axis=0)[half - 1])],
        mode="markers",
        marker={"size": 9, "color": colour("accent")},
        hoverinfo="skip",
    )
    left = half > np.sqrt(n)
    label(
        fig,
        f"{half:,} of {n:,} carry half",
        x=np.log10(half),
        y=0.5,
        xanchor="right" if left else "left",
        xshift=-10 if left else 10,
        yshift=0 if left else -8,
    )
    return fig


def cumulative_shares(weight: np.ndarray) -> np.ndarray:
    """(targets, train): share of the absolute weight in the 1, 2, ...

    strongest; targets without weight are left out.
    """
    sizes = -np.sort(-np.abs(np.asarray(weight, np.float64)).reshape(-1, weight.shape[-1]), axis=1)
    total = sizes.sum(axis=1, keepdims=True)
    kept = total[:, 0] > 0
    if not kept.any():
        return np.ones((1, weight.shape[-1]))
    return np.cumsum(sizes[kept], axis=1) / total[kept]


def summary(weight: np.ndarray) -> str:
    """One sentence on how concentrated the weights are, for a title."""
    rows = np.asarray(weight).reshape(-1, weight.shape[-1])
    present = (rows != 0).sum(axis=1)
    n = rows.shape[1]
    if np.median(present) < 0.7 * n:
        return (
            f"A typical target depends on {int(np.median(present)):,} of {n:,} training examples; the other"
            " weights are exactly zero"
        )
    shares = np.median(cumulative_shares(rows), axis=0)
    ten = shares[min(9, n - 1)]
    return (
        f"The 10 strongest of {n:,} training examples carry {percent(ten)} of a typical target's absolute"
        " weight"
    )


def largest(weight: np.ndarray) -> str:
    """The largest weight and the typical size, for a caption."""
    sizes = np.abs(np.asarray(weight, np.float64).ravel())
    return (
        f"largest {significant(float(sizes.max()))}, median of the non-zero ones"
        f" {significant(float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0)}"
    )
