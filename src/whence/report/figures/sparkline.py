"""A histogram of one target's weights, small enough to sit in a line: inline SVG that takes its colours
from the page."""

from __future__ import annotations

import numpy as np

from whence.report.html import Markup, tag
from whence.report.numbers import signed


def sparkline(weights: np.ndarray, width: int = 168, height: int = 34) -> Markup:
    """Histogram of the non-zero weights (train,), log counts, zero in the middle; left of it lowers, right
    of it raises."""
    values = np.asarray(weights, np.float64).ravel()
    values = values[values != 0]
    if not len(values):
        return tag("span", "all weights are zero", class_="quiet")
    reach = float(np.abs(values).max())
    counts, _ = np.histogram(values, np.linspace(-reach, reach, 29))
    step = width / len(counts)
    scale = (height - 3) / np.log1p(counts.max())
    bars = [
        tag(
            "rect",
            x=f"{i * step + 0.5:.1f}",
            y=f"{height - max(np.log1p(c) * scale, 1.5):.1f}",
            width=f"{step - 1:.1f}",
            height=f"{max(np.log1p(c) * scale, 1.5):.1f}",
            class_="raises" if i >= len(counts) / 2 else "lowers",
        )
        for i, c in enumerate(counts)
        if c
    ]
    middle = tag("line", x1=f"{width / 2:.1f}", x2=f"{width / 2:.1f}", y1="0", y2=str(height))
    words = (
        f"Histogram of {len(values):,} non-zero weights from {signed(float(values.min()))} to"
        f" {signed(float(values.max()))}"
    )
    return tag(
        "svg",
        middle,
        bars,
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        class_="spark",
        role="img",
        aria_label=words,
    )
