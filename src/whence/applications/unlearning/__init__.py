"""Unlearning: a trained model made to forget some of its training examples, as if retrained without them.

Ways to do so, one a file, all with one interface: ``method.unlearn(model, study, forget)``. `Experiment`
makes base models, oracles (retrained without the forget set) and unlearned models by the hundred, in banks;
`certify` compares their distributions.
"""

from whence.applications.unlearning.ascent import Ascent
from whence.applications.unlearning.ascent_descent import AscentDescent
from whence.applications.unlearning.base import Cost, Edit, Unlearn
from whence.applications.unlearning.certificate import Certificate, certify
from whence.applications.unlearning.challenge import Challenge, challenge_score
from whence.applications.unlearning.descent import Descent
from whence.applications.unlearning.direct import DatamodelDirect
from whence.applications.unlearning.distillation import Distillation
from whence.applications.unlearning.effects import two_class_logits
from whence.applications.unlearning.experiment import Experiment
from whence.applications.unlearning.forget_sets import check_forget, forget_sets
from whence.applications.unlearning.kernel_matching import KernelMatching
from whence.applications.unlearning.klom import KLoM, klom, klom_values, suggest_bins
from whence.applications.unlearning.matching import DatamodelMatching, Matching, OracleMatching
from whence.applications.unlearning.measures import Measures
from whence.applications.unlearning.outputs import Outputs, Part
from whence.applications.unlearning.random_labels import RandomLabels
from whence.applications.unlearning.request import Request, examined
from whence.applications.unlearning.retraining import Retraining
from whence.applications.unlearning.scale import fit_scale
from whence.applications.unlearning.scrub import Scrub
from whence.applications.unlearning.sides import Summary
from whence.applications.unlearning.ssd import SSD
from whence.applications.unlearning.ulira import ULiRA, ulira

__all__ = [
    "SSD",
    "Ascent",
    "AscentDescent",
    "Certificate",
    "Challenge",
    "Cost",
    "DatamodelDirect",
    "DatamodelMatching",
    "Descent",
    "Distillation",
    "Edit",
    "Experiment",
    "KLoM",
    "KernelMatching",
    "Matching",
    "Measures",
    "OracleMatching",
    "Outputs",
    "Part",
    "RandomLabels",
    "Request",
    "Retraining",
    "Scrub",
    "Summary",
    "ULiRA",
    "Unlearn",
    "certify",
    "challenge_score",
    "check_forget",
    "examined",
    "fit_scale",
    "forget_sets",
    "klom",
    "klom_values",
    "suggest_bins",
    "two_class_logits",
    "ulira",
]
