"""Judging attributions by retrainings that they never saw.

`lds` says how well an attribution orders held-out retrainings, `noise_ceiling` how well anything could,
`compare` which of several is better, `cost_curve` what each costs, `prediction_error` whether amounts are
right, `counterfactual` whether removing the named examples does what was said, `learning_curve` what more
retraining would buy, `metasmoothness` whether metagradients can work; `tune` chooses hyper-parameters on
validation retrainings. Results print themselves with n, masks, seeds, keep fraction, intervals and the
ceiling, and turn into JSON with ``to_dict()``.
"""

from whence.evaluate.agreement import Agreement
from whence.evaluate.ceiling import Ceiling, noise_ceiling
from whence.evaluate.cost import CostCurve, CostPoint, cost_curve
from whence.evaluate.counterfactual import Counterfactual, Removal, counterfactual
from whence.evaluate.lds import LDS, Comparison, Difference, compare, lds
from whence.evaluate.learning_curve import LearningCurve, Point, learning_curve
from whence.evaluate.prediction import PredictionError, prediction_error
from whence.evaluate.smoothness import Metasmoothness, metasmoothness
from whence.evaluate.tuning import Tuned, tune

__all__ = [
    "LDS",
    "Agreement",
    "Ceiling",
    "Comparison",
    "CostCurve",
    "CostPoint",
    "Counterfactual",
    "Difference",
    "LearningCurve",
    "Metasmoothness",
    "Point",
    "PredictionError",
    "Removal",
    "Tuned",
    "compare",
    "cost_curve",
    "counterfactual",
    "lds",
    "learning_curve",
    "metasmoothness",
    "noise_ceiling",
    "prediction_error",
    "tune",
]
