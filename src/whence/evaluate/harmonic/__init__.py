"""Harmonic analysis of outputs as functions of the training subset (Saunshi, Gupta, Braverman, Arora 2023).

`variance_split` says from retrainings, without fitting a datamodel, how much of an output's variance is
linear in the subset, non-linear, and seed noise; `models_needed` plans with it. `group_effect` and
`exact_group_effect` are what leaving out or adding whole groups does; `coefficients` and its kin are the
exact expansion where all subsets can be trained.
"""

from whence.evaluate.harmonic.fourier import best_linear, coefficients, degree_weights
from whence.evaluate.harmonic.groups import exact_group_effect, group_effect
from whence.evaluate.harmonic.planner import ModelsNeeded, expected_lds, models_needed
from whence.evaluate.harmonic.split import Share, VarianceSplit, variance_split

__all__ = [
    "ModelsNeeded",
    "Share",
    "VarianceSplit",
    "best_linear",
    "coefficients",
    "degree_weights",
    "exact_group_effect",
    "expected_lds",
    "group_effect",
    "models_needed",
    "variance_split",
]
