"""Judging attributions by retrainings that they never saw.

`lds` says how well an attribution orders held-out retrainings, `noise_ceiling` how well anything could,
`compare` which of several is better, `cost_curve` what each costs, `prediction_error` whether amounts are
right, `counterfactual` whether removing the named examples does what was said, `learning_curve` what more
retraining would buy, `metasmoothness` whether metagradients can work; `tune` chooses hyper-parameters on
validation retrainings. `variance_split` says how linear a model is in its data, hence how good any linear
datamodel can get, and `models_needed` plans with it; `keep_fractions` judges datamodels at other kept
fractions than their own. `harmonic` holds the exact expansion and group effects. Results print themselves
with n, masks, seeds, keep fraction, intervals and the ceiling, and turn into JSON with ``to_dict()``.
"""

from whence.evaluate.agreement import Agreement
from whence.evaluate.ceiling import Ceiling, noise_ceiling
from whence.evaluate.cost import CostCurve, CostPoint, cost_curve
from whence.evaluate.counterfactual import Counterfactual, Removal, counterfactual
from whence.evaluate.harmonic import (
    ModelsNeeded,
    Share,
    VarianceSplit,
    expected_lds,
    group_effect,
    models_needed,
    variance_split,
)
from whence.evaluate.keep import KeepCell, KeepFractions, keep_fractions
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
    "KeepCell",
    "KeepFractions",
    "LearningCurve",
    "Metasmoothness",
    "ModelsNeeded",
    "Point",
    "PredictionError",
    "Removal",
    "Share",
    "Tuned",
    "VarianceSplit",
    "compare",
    "cost_curve",
    "counterfactual",
    "expected_lds",
    "group_effect",
    "keep_fractions",
    "lds",
    "learning_curve",
    "metasmoothness",
    "models_needed",
    "noise_ceiling",
    "prediction_error",
    "tune",
    "variance_split",
]
