"""Figures of the report and the explorer: each function takes numbers and returns a plotly figure."""

from whence.report.figures.chart import chart
from whence.report.figures.cost import cost_curve
from whence.report.figures.counterfactual import removals
from whence.report.figures.curve import learning_curve
from whence.report.figures.lds import lds_bars, lds_per_target
from whence.report.figures.prediction import prediction
from whence.report.figures.sparkline import sparkline
from whence.report.figures.theme import PALETTE, dark
from whence.report.figures.weights import concentration, weight_histogram

__all__ = [
    "PALETTE",
    "chart",
    "concentration",
    "cost_curve",
    "dark",
    "lds_bars",
    "lds_per_target",
    "learning_curve",
    "prediction",
    "removals",
    "sparkline",
    "weight_histogram",
]
