"""Unlearning: making a trained model forget rows, and finding out whether it did."""

from whence.applications.unlearning.certificate import Certificate, certify
from whence.applications.unlearning.challenge import Challenge, challenge_score
from whence.applications.unlearning.forget_sets import check_forget, forget_sets
from whence.applications.unlearning.klom import KLoM, klom, klom_values, suggest_bins
from whence.applications.unlearning.measures import Measures
from whence.applications.unlearning.outputs import Outputs, Part
from whence.applications.unlearning.sides import Summary
from whence.applications.unlearning.ulira import ULiRA, ulira

__all__ = [
    "Certificate",
    "Challenge",
    "KLoM",
    "Measures",
    "Outputs",
    "Part",
    "Summary",
    "ULiRA",
    "certify",
    "challenge_score",
    "check_forget",
    "forget_sets",
    "klom",
    "klom_values",
    "suggest_bins",
    "ulira",
]
