"""LDS against compute, in trainings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from whence.evaluate.cost import CostCurve, CostPoint
from whence.report.figures.theme import colour, figure, label, plain
from whence.report.numbers import estimate, significant

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LEAST = 0.01  # trainings; what costs less, or nothing, stands at the left edge


def cost_curve(curve: CostCurve) -> Figure:
    """One point an attribution on a logarithmic axis of trainings; those best at their price are joined and
    named; the noise ceiling across."""
    places = {row.method: _place(row) for row in curve.rows}
    ends = [edge for row in curve.rows for edge in (row.lds, *(row.interval or ()))]
    low, high = min(0.0, *ends), max([*ends, *(curve.ceiling_interval or ()), curve.ceiling or 0.0])
    span = high - low or 1.0
    first, last = math.floor(min(places.values())), math.ceil(max(places.values()))
    powers = range(first, max(last, first + 1) + 1)
    fig = figure(
        420,
        x={
            "type": "log",
            "title": {"text": "compute, in trainings of one model"},
            "tickvals": [10.0**p for p in powers],
            "ticktext": [
                f"{10.0**p:,g}" if p > math.log10(_LEAST) else f"{_LEAST:g} or less" for p in powers
            ],
            "range": [powers[0] - 0.15, powers[-1] + 0.1],
        },
        y={"title": {"text": "LDS"}, "range": [low - 0.04 * span, high + 0.12 * span], "nticks": 6},
        margin={"t": 10, "b": 50},
    )
    if curve.ceiling is not None:
        fig.add_shape(
            type="line",
            xref="paper",
            x0=0,
            x1=1,
            y0=curve.ceiling,
            y1=curve.ceiling,
            line={"color": colour("muted"), "width": 1.5, "dash": "dash"},
        )
        words = f"noise ceiling {estimate(curve.ceiling, curve.ceiling_interval)}"
        where = {"x": 0, "xref": "paper", "y": curve.ceiling, "yanchor": "bottom", "xshift": 4}
        label(fig, words, **where, font={"color": colour("muted")})
    for frontier, role in ((False, "neutral"), (True, "accent")):
        rows = [row for row in curve.rows if row.frontier is frontier]
        if rows:
            _points(fig, rows, places, role, joined=frontier)
    for row in curve.frontier:
        right = places[row.method] < (powers[0] + powers[-1]) / 2
        label(
            fig,
            plain(row.method),
            x=places[row.method],
            y=row.lds,
            xanchor="left" if right else "right",
            yanchor="bottom",
            xshift=-4 if right else 4,
            yshift=6,
            font={"color": colour("accent"), "size": 12},
        )
    return fig


def _points(fig: Figure, rows: list[CostPoint], places: dict[str, float], role: str, joined: bool) -> None:
    fig.add_scatter(
        x=[10 ** places[row.method] for row in rows],
        y=[row.lds for row in rows],
        mode="lines+markers" if joined else "markers",
        line={"color": colour(role), "width": 2, "shape": "hv"},
        marker={"size": 8, "color": colour(role)},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [row.interval[1] - row.lds if row.interval else 0.0 for row in rows],
            "arrayminus": [row.lds - row.interval[0] if row.interval else 0.0 for row in rows],
            "thickness": 1,
            "width": 2,
        },
        customdata=[
            [plain(row.method), estimate(row.lds, row.interval), significant(row.trainings)] for row in rows
        ],
        hovertemplate="%{customdata[0]}<br>%{customdata[2]} trainings<br>LDS %{customdata[1]}<extra></extra>",
        showlegend=False,
    )


def _place(row: CostPoint) -> float:
    return math.log10(max(row.trainings, _LEAST))
