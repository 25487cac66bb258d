"""How well methods rank unseen retrainings: one bar a method against the noise ceiling, and the spread
over targets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from whence.report.figures.theme import colour, figure, label, plain
from whence.report.numbers import estimate, fixed
from whence.report.scores import Scoreboard, capital

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Pixels that a method takes: its name and value stand in one line above its bar, so that a phone has room.
_ROW = 54


def lds_bars(board: Scoreboard) -> Figure:
    """One bar a method with its 95 % interval, best first, and the noise ceiling as a line with its
    interval."""
    rows = board.ranked
    places = [-float(i) for i in range(len(rows))]
    ends = [edge for row in rows for edge in (row.lds, *(row.interval or ()))]
    ceiling = [value for value in (board.ceiling, *(board.ceiling_interval or ())) if value is not None]
    low, high = min(0.0, *ends), max(0.1, *ends, *ceiling)
    room = 0.04 * (high - low)
    fig = figure(
        _ROW * len(rows) + 96,
        x={
            "range": [low - (room if low < 0 else 0), high + room],
            "title": {"text": "LDS (mean Spearman correlation over targets)"},
            "nticks": 7,
            "showgrid": False,
        },
        y={"visible": False, "range": [places[-1] - 0.55, 0.9]},
        margin={"t": 8, "l": 4, "b": 48},
        bargap=0,
    )
    for row, place in zip(rows, places):
        role = "accent" if row.name == board.main else "neutral" if row.baseline else "accent_second"
        error = None
        if row.interval:
            error = {
                "type": "data",
                "symmetric": False,
                "array": [row.interval[1] - row.lds],
                "arrayminus": [row.lds - row.interval[0]],
                "color": colour("ink"),
                "thickness": 1.5,
                "width": 4,
            }
        words, called = estimate(row.lds, row.interval), plain(capital(row.name))
        fig.add_bar(
            x=[row.lds],
            y=[place],
            orientation="h",
            width=0.36,
            marker={"color": colour(role), "line": {"width": 0}},
            error_x=error,
            hovertemplate=f"{called}<br>LDS {words}<extra></extra>",
            name=called,
        )
        name = f"<b>{called}</b>" if row.name == board.main else called
        note = f"  <i>{plain(row.note)}</i>" if row.note else ""
        label(fig, f"{name}   {words}{note}", x=0, xref="paper", y=place + 0.18, yanchor="bottom", xshift=-2)
    for place in places:
        line = {"x0": 0, "x1": 0, "y0": place - 0.26, "y1": place + 0.22}
        fig.add_shape(type="line", **line, line={"color": colour("zero"), "width": 1})
    if board.ceiling is not None:
        _ceiling(fig, board, bottom=places[-1] - 0.55)
    return fig


def _ceiling(fig: Figure, board: Scoreboard, bottom: float) -> None:
    assert board.ceiling is not None
    if board.ceiling_interval:
        low, high = board.ceiling_interval
        fig.add_shape(
            type="rect",
            x0=low,
            x1=high,
            y0=bottom,
            y1=0.62,
            fillcolor=colour("neutral_band"),
            line={"width": 0},
            layer="below",
        )
    fig.add_shape(
        type="line",
        x0=board.ceiling,
        x1=board.ceiling,
        y0=bottom,
        y1=0.62,
        line={"color": colour("muted"), "width": 1.5, "dash": "dash"},
    )
    words = f"noise ceiling {estimate(board.ceiling, board.ceiling_interval)}"
    label(
        fig,
        words,
        x=1,
        xref="paper",
        xanchor="right",
        y=0.64,
        yanchor="bottom",
        font={"color": colour("muted")},
    )


def lds_per_target(values: np.ndarray) -> Figure:
    """How the rank correlation spreads over targets, with its median."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    edges = np.histogram_bin_edges(values, bins=min(40, max(8, int(np.sqrt(len(values)) * 1.5))))
    counts, edges = np.histogram(values, edges)
    centres, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    fig = figure(
        240,
        x={"title": {"text": "Spearman correlation of one target"}, "nticks": 8, "showgrid": False},
        y={
            "title": {"text": "targets"},
            "rangemode": "tozero",
            "nticks": 5,
            "range": [0, counts.max() * 1.22],
        },
        margin={"t": 8, "b": 48},
    )
    fig.add_bar(
        x=centres.tolist(),
        y=counts.tolist(),
        width=(widths * 0.92).tolist(),
        marker={"color": colour("accent")},
        customdata=[[fixed(a), fixed(b)] for a, b in pairwise(edges)],
        hovertemplate="%{customdata[0]} to %{customdata[1]}<br>%{y} targets<extra></extra>",
    )
    middle = float(np.median(values))
    fig.add_shape(
        type="line",
        x0=middle,
        x1=middle,
        y0=0,
        y1=counts.max() * 1.08,
        line={"color": colour("ink"), "width": 1.5, "dash": "dot"},
    )
    right = middle < (edges[0] + edges[-1]) / 2
    label(
        fig,
        f"median {fixed(middle)}",
        x=middle,
        y=counts.max() * 1.1,
        xanchor="left" if right else "right",
        xshift=4 if right else -4,
        yanchor="bottom",
    )
    return fig
