"""Predicted against realised outputs on held-out masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whence.report.figures.theme import colour, figure, key
from whence.report.numbers import fixed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def prediction(
    predicted: np.ndarray,
    realised: np.ndarray,
    error: np.ndarray | None = None,
    *,
    output: str = "margin",
    note: str = "",
    diagonal: bool = True,
) -> Figure:
    """A scatter of what was predicted for a mask against what its retrainings gave.

    Parameters
    ----------
    predicted, realised : (points,)
    error : (points,), optional
        Standard error of `realised` over the seeds of a mask.
    output : name of the output, for the axes
    note : a few words set above, such as the correlation
    diagonal : draw y = x (only where the prediction is meant in absolute terms)
    """
    predicted, realised = np.asarray(predicted, float), np.asarray(realised, float)
    many = len(predicted) > 300
    fig = figure(
        400,
        x={"title": {"text": f"predicted {output}"}, "nticks": 7},
        y={"title": {"text": f"realised {output}"}, "nticks": 7},
        margin={"b": 50},
    )
    if diagonal:
        low, high = min(predicted.min(), realised.min()), max(predicted.max(), realised.max())
        fig.add_shape(
            type="line",
            x0=low,
            x1=high,
            y0=low,
            y1=high,
            line={"color": colour("zero"), "width": 1.2, "dash": "dot"},
            layer="below",
        )
    bars = None
    if error is not None:
        bars = {
            "type": "data",
            "array": np.round(error, 4).tolist(),
            "color": colour("neutral"),
            "thickness": 1,
            "width": 0,
        }
    fig.add_scatter(
        x=np.round(predicted, 4).tolist(),
        y=np.round(realised, 4).tolist(),
        mode="markers",
        error_y=bars,
        marker={"color": colour("accent_point"), "size": 4 if many else 8, "line": {"width": 0}},
        hovertemplate="predicted %{x:.2f}<br>realised %{y:.2f}<extra></extra>",
    )
    # The axes follow the points, not the diagonal: predictions vary much less than noisy single retrainings.
    fig.update_xaxes(range=_padded(predicted))
    fig.update_yaxes(range=_padded(realised if error is None else np.r_[realised - error, realised + error]))
    lines = [("muted", "┄ realised = predicted")] if diagonal else []
    if note or lines:
        key(fig, [("ink", note)] if note else [], lines)
    return fig


def _padded(values: np.ndarray) -> list[float]:
    low, high = float(np.min(values)), float(np.max(values))
    pad = 0.06 * (high - low) or 1.0
    return [low - pad, high + pad]


def correlation_note(spearman: float, pearson: float, points: int, noun: str) -> str:
    """The line above a scatter."""
    return f"Spearman {fixed(spearman)}   Pearson {fixed(pearson)}   {points:,} {noun}"
