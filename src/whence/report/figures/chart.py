"""The chart of a Finding, drawn in the house style."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whence.finding import Chart, Series
from whence.report.figures.theme import colour, figure, key, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROLES = ("accent", "warm", "muted", "accent_second", "neutral")
# Past five series the colours come round again, with another dash and mark.
_DASHES, _SYMBOLS, _MARKS = ("solid", "dash", "dot"), ("circle", "diamond-open", "square-open"), "●◇□"


def chart(spec: Chart) -> Figure:
    """A plotly figure of `spec`. Series are told apart by colour and named in the line above the picture."""
    draw = {
        "bars": _bars, "scatter": _points, "lines": _points, "steps": _points, "histogram": _histogram
    }[spec.kind]  # fmt: skip
    scale = {"type": "log", **_decades(spec)} if spec.log_x else {"nticks": 8}
    fig = figure(
        380,
        x={"title": {"text": plain(spec.x_title)}, **scale},
        y={"title": {"text": plain(spec.y_title)}, "nticks": 7},
        margin={"b": 50},
        barmode="group",
    )
    for number, (series, role) in enumerate(zip(spec.series, _ROLES * len(spec.series))):
        draw(fig, series, role, spec.kind)
        if draw is _points:
            turn = number // len(_ROLES) % len(_DASHES)
            fig.data[-1].update(line={"dash": _DASHES[turn]}, marker={"symbol": _SYMBOLS[turn]})
    if spec.diagonal:
        ends = np.array([v for s in spec.series for v in (*s.x, *s.y)], float)
        low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
        fig.add_shape(
            type="line",
            x0=low,
            x1=high,
            y0=low,
            y1=high,
            line={"color": colour("zero"), "width": 1.2, "dash": "dot"},
            layer="below",
        )
    if len(spec.series) > 1:
        turns = [number // len(_ROLES) % len(_DASHES) for number in range(len(spec.series))]
        named = zip(spec.series, _ROLES * len(spec.series), turns)
        key(fig, [(role, f"{_MARKS[turn]} {s.name}") for s, role, turn in named])
    return fig


def _decades(spec: Chart) -> dict[str, Any]:
    """Ticks of a logarithmic axis: powers of ten, or within two of them the few places that there are."""
    places = sorted({float(x) for series in spec.series for x in series.x if x > 0})
    if not places or places[-1] / places[0] > 100:
        return {"dtick": 1}
    if len(places) > 8:
        return {"dtick": "D2"}
    return {"tickvals": places, "ticktext": [f"{place:.3g}" for place in places]}


def _bars(fig: Figure, series: Series, role: str, kind: str) -> None:
    fig.add_bar(
        x=[plain(x) for x in series.x],
        y=list(map(float, series.y)),
        marker={"color": colour(role)},
        error_y=_error(series, role),
        name=plain(series.name),
        text=_labels(series),
        textposition="none",
        hovertemplate="%{x}<br>%{y:.3~g}" + _hover(series),
    )


def _points(fig: Figure, series: Series, role: str, kind: str) -> None:
    line = kind in ("lines", "steps")
    point = f"{role}_point" if role in ("accent", "warm", "neutral") else role
    fig.add_scatter(
        x=list(series.x),
        y=list(map(float, series.y)),
        mode="lines+markers" if line else "markers",
        line={"color": colour(role), "width": 2.2, "shape": "hv" if kind == "steps" else "linear"},
        marker={"color": colour(role if line else point), "size": 7 if line else 8},
        error_y=_error(series, role),
        name=plain(series.name),
        text=_labels(series),
        hovertemplate="%{x}, %{y:.3~g}" + _hover(series),
    )


def _histogram(fig: Figure, series: Series, role: str, kind: str) -> None:
    values = np.asarray(series.x, float)
    counts, edges = np.histogram(
        values[np.isfinite(values)], bins=min(50, max(10, int(np.sqrt(len(values)))))
    )
    centres = (edges[:-1] + edges[1:]) / 2
    fig.add_bar(
        x=centres.tolist(),
        y=counts.tolist(),
        width=float(np.diff(edges)[0] * 0.92),
        marker={"color": colour(role)},
        name=plain(series.name),
        hovertemplate="about %{x:.3~g}<br>%{y:,}<extra></extra>",
    )


def _error(series: Series, role: str) -> dict[str, Any] | None:
    if series.low is None or series.high is None:
        return None
    y = np.asarray(series.y, float)
    return {
        "type": "data",
        "symmetric": False,
        "array": (np.asarray(series.high, float) - y).tolist(),
        "arrayminus": (y - np.asarray(series.low, float)).tolist(),
        "color": colour("ink"),
        "thickness": 1.3,
        "width": 3,
    }


def _labels(series: Series) -> list[str] | None:
    return [plain(words) for words in series.labels] if series.labels else None


def _hover(series: Series) -> str:
    return ("<br>%{text}" if series.labels else "") + "<extra></extra>"
