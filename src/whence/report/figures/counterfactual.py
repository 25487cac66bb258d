"""Predicted against realised change after removing training examples and retraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from whence.report.figures.theme import colour, figure, key, plain
from whence.report.numbers import fixed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROLES = {"top": "accent", "helpful": "accent", "bottom": "warm", "harmful": "warm"}
_SYMBOLS = {"accent": "circle", "warm": "diamond", "neutral": "square"}


def removals(
    kinds: Sequence[str],
    predicted: Sequence[float],
    realised: Sequence[float],
    error: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    *,
    output: str = "margin",
    slope: float | None = None,
    intercept: float = 0.0,
    diagonal: bool = True,
) -> Figure:
    """One point a removal, coloured by what was removed, with the standard error of the realised change.

    `slope` draws the line realised = intercept + slope x predicted; `diagonal` the line realised = predicted.
    """
    kinds = list(kinds)
    x, y = np.asarray(predicted, float), np.asarray(realised, float)
    spread = np.zeros_like(y) if error is None else np.nan_to_num(np.asarray(error, float))
    x_range, y_range = _padded(x), _padded(np.r_[y - spread, y + spread])
    fig = figure(
        440,
        x={"title": {"text": f"predicted change of the {output}"}, "range": x_range, "nticks": 7},
        y={"title": {"text": f"realised change of the {output}"}, "range": y_range, "nticks": 7},
        margin={"b": 50},
    )
    for axis in ("x", "y"):  # both zeros: on which side of them a point lies is the question
        fixed_ends = (
            {"y0": y_range[0], "y1": y_range[1]} if axis == "x" else {"x0": x_range[0], "x1": x_range[1]}
        )
        fig.add_shape(
            type="line",
            **{f"{axis}0": 0, f"{axis}1": 0},
            **fixed_ends,
            line={"color": colour("zero"), "width": 1},
            layer="below",
        )
    if diagonal:
        _line(fig, 0.0, 1.0, x_range, y_range, "zero", "dot")
    if slope is not None:
        _line(fig, intercept, slope, x_range, y_range, "ink", "solid")
    for kind in dict.fromkeys(kinds):
        role = _ROLES.get(kind, "neutral")
        chosen = [i for i, other in enumerate(kinds) if other == kind]
        fig.add_scatter(
            x=np.round(x[chosen], 4).tolist(),
            y=np.round(y[chosen], 4).tolist(),
            mode="markers",
            name=plain(words(kind)),
            marker={
                "color": colour(f"{role}_point"),
                "symbol": _SYMBOLS[role],
                "size": 9,
                "line": {"color": colour(role), "width": 1},
            },
            error_y={
                "type": "data",
                "array": np.round(spread[chosen], 4).tolist(),
                "color": colour(f"{role}_point"),
                "thickness": 1.2,
                "width": 0,
            },
            text=[plain(labels[i]) for i in chosen] if labels is not None else None,
            hovertemplate=("%{text}<br>" if labels is not None else "")
            + "predicted %{x:+.2f}<br>realised %{y:+.2f}<extra></extra>",
        )
    marks = [("muted", "left out:")]
    marks += [(_ROLES.get(kind, "muted"), f"{mark} {words(kind)}") for kind, mark in _keys(kinds)]
    lines = [("ink", f"― fit, slope {fixed(slope)}")] if slope is not None else []
    lines += [("muted", "┄ realised = predicted")] if diagonal else []
    key(fig, marks, lines)
    return fig


def words(kind: str) -> str:
    """What was removed, as a reader says it."""
    return {
        "top": "helpful",
        "helpful": "helpful",
        "bottom": "harmful",
        "harmful": "harmful",
        "random": "random",
    }.get(kind, kind)


def _keys(kinds: Sequence[str]) -> list[tuple[str, str]]:
    marks = {"accent": "●", "warm": "◆", "neutral": "■"}
    return [(kind, marks[_ROLES.get(kind, "neutral")]) for kind in dict.fromkeys(kinds)]


def _line(
    fig: Figure,
    intercept: float,
    slope: float,
    x_range: list[float],
    y_range: list[float],
    role: str,
    dash: str,
) -> None:
    xs = np.array(x_range)
    if slope:  # stop where the line leaves the picture
        at = (np.array(y_range) - intercept) / slope
        xs = np.array([max(xs[0], at.min()), min(xs[1], at.max())])
    if xs[0] >= xs[1]:
        return
    ys = intercept + slope * xs
    fig.add_shape(
        type="line",
        x0=xs[0],
        x1=xs[1],
        y0=ys[0],
        y1=ys[1],
        line={"color": colour(role), "width": 1.3, "dash": dash},
        layer="below",
    )


def _padded(values: np.ndarray) -> list[float]:
    low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
    pad = 0.08 * (high - low) or 1.0
    return [low - pad, high + pad]
