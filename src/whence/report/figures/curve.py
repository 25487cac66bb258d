"""LDS against the number of retrained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from whence.report.figures.theme import LEGIBLE, colour, figure, label, plain
from whence.report.numbers import estimate

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROLES = ("accent", "warm", "muted", "accent_second", "neutral")


@dataclass(frozen=True)
class Curve:
    """LDS (points,) at numbers of models (points,), with the ends of the interval of each point where
    known."""

    models: Sequence[int]
    lds: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def learning_curve(
    curves: Mapping[str, Curve],
    ceiling: float | None = None,
    ceiling_interval: tuple[float, float] | None = None,
) -> Figure:
    """One line a method with its 95 % band, named at its end; the noise ceiling across."""
    every = [v for c in curves.values() for v in (*c.lds, *(c.low or ()), *(c.high or ()))] + [0.0]
    tops = [v for v in (ceiling, *(ceiling_interval or ())) if v is not None]
    low, high = min(every), max([*every, *tops])
    span = high - low or 1.0
    ticks = sorted({int(m) for c in curves.values() for m in c.models})
    fig = figure(
        380,
        x={
            "type": "log",
            "title": {"text": "retrained models"},
            "tickvals": _thinned(ticks),
            "ticktext": [f"{t:,}" for t in _thinned(ticks)],
            "range": [np.log10(ticks[0]) - 0.05, np.log10(ticks[-1]) + 0.06],
        },
        y={"title": {"text": "LDS"}, "range": [low - 0.03 * span, high + 0.1 * span], "nticks": 6},
        margin={"t": 10, "b": 50},
    )
    if ceiling_interval:
        fig.add_shape(
            type="rect",
            xref="paper",
            x0=0,
            x1=1,
            y0=ceiling_interval[0],
            y1=ceiling_interval[1],
            fillcolor=colour("neutral_band"),
            line={"width": 0},
            layer="below",
        )
    if ceiling is not None:
        fig.add_shape(
            type="line",
            xref="paper",
            x0=0,
            x1=1,
            y0=ceiling,
            y1=ceiling,
            line={"color": colour("muted"), "width": 1.5, "dash": "dash"},
        )
        label(
            fig,
            f"noise ceiling {estimate(ceiling, ceiling_interval)}",
            x=0,
            xref="paper",
            y=ceiling,
            yanchor="bottom",
            xshift=4,
            yshift=2,
            font={"color": colour("muted")},
        )
    heights = _apart([c.lds[-1] for c in curves.values()], gap=0.075 * span)
    for (name, curve), role, height in zip(curves.items(), _ROLES * len(curves), heights):
        models = [int(m) for m in curve.models]
        if curve.low is not None and curve.high is not None:
            band = role if f"{role}_band" in _BANDS else "neutral"
            fig.add_scatter(
                x=models + models[::-1],
                y=[*map(float, curve.high), *map(float, curve.low)][: len(models)]
                + [*map(float, curve.low)][::-1],
                fill="toself",
                fillcolor=colour(f"{band}_band"),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
            )
        fig.add_scatter(
            x=models,
            y=[float(v) for v in curve.lds],
            mode="lines+markers",
            line={"color": colour(role), "width": 2.2},
            marker={"size": 7, "color": colour(role)},
            customdata=[
                estimate(v, (lo, hi))
                for v, lo, hi in zip(curve.lds, curve.low or curve.lds, curve.high or curve.lds)
            ],
            hovertemplate=f"{plain(name)}<br>%{{x:,}} models<br>LDS %{{customdata}}<extra></extra>",
            name=plain(name),
        )
        label(
            fig,
            f"<b>{plain(name[:1].upper() + name[1:])}</b>",
            x=np.log10(models[-1]),
            y=height,
            xanchor="right",
            yanchor="bottom",
            xshift=2,
            yshift=9,
            font={"color": colour(role if role in LEGIBLE else "ink")},
        )
    return fig


_BANDS = ("accent_band", "warm_band", "neutral_band")


def _thinned(ticks: list[int]) -> list[int]:
    """Ticks that are at least a factor of 1.6 apart, so that their labels have room on a phone; the last
    is kept."""
    kept: list[int] = []
    for tick in reversed(ticks):
        if not kept or kept[-1] / tick >= 1.6:
            kept.append(tick)
    return kept[::-1]


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights for labels: each at its value, pushed up from the one below by at least `gap`."""
    order = np.argsort(values)
    placed = np.asarray(values, float).copy()
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    return [float(v) for v in placed]
