"""Choosing robot demonstrations: DataMIL's estimators, the retrieval rules they are compared with, rollouts.

Dass, Khaddaj, Engstrom, Madry, Ilyas, Martin-Martin 2026 (arXiv 2505.09603).
"""

from whence.applications.selection.robots.behavior_retrieval import BehaviorRetrieval
from whence.applications.selection.robots.comparison import compare_demonstrations
from whence.applications.selection.robots.descent import MetagradientDescent
from whence.applications.selection.robots.finding import Arm, DemonstrationFinding
from whence.applications.selection.robots.late_injection import LateInjection
from whence.applications.selection.robots.narrowing import Narrowing
from whence.applications.selection.robots.policies import Order, Policy, batches, train_policies
from whence.applications.selection.robots.regression import cluster_regression, rule_prior
from whence.applications.selection.robots.retrieval import ActionRetrieval, StateRetrieval
from whence.applications.selection.robots.rollout_datamodel import RolloutDatamodel
from whence.applications.selection.robots.rollouts import Rollouts, Trials, roll_out
from whence.applications.selection.robots.subsequence import SubsequenceMatching

__all__ = [
    "ActionRetrieval",
    "Arm",
    "BehaviorRetrieval",
    "DemonstrationFinding",
    "LateInjection",
    "MetagradientDescent",
    "Narrowing",
    "Order",
    "Policy",
    "RolloutDatamodel",
    "Rollouts",
    "StateRetrieval",
    "SubsequenceMatching",
    "Trials",
    "batches",
    "cluster_regression",
    "compare_demonstrations",
    "roll_out",
    "rule_prior",
    "train_policies",
]
