"""selection: choosing what to train on, and showing by training that the choice was good.

A `Pool` holds candidates and target examples, a `Selector` scores the candidates (higher = choose first),
`select` turns scores into exactly as many candidates as asked for, `compare_selections` trains on the choices
of several rules and judges them by other examples of the same tasks.
"""

from whence.applications.selection.attributed import Attributed
from whence.applications.selection.base import Selector, scores_of
from whence.applications.selection.bm25 import BM25
from whence.applications.selection.choose import select
from whence.applications.selection.classifier import Classifier
from whence.applications.selection.compare import compare_selections
from whence.applications.selection.dsir import DSIR
from whence.applications.selection.duplicates import duplicate_rate, near_duplicates
from whence.applications.selection.export import write_index
from whence.applications.selection.finding import Choice, SelectionFinding, SelectionRow
from whence.applications.selection.less import Less
from whence.applications.selection.multiplier import ComputeMultiplier, compute_multiplier
from whence.applications.selection.perplexity import Perplexity
from whence.applications.selection.pool import Pool
from whence.applications.selection.random import Random
from whence.applications.selection.semantic import SemanticDeduplication
from whence.applications.selection.similarity import Similarity

__all__ = [
    "BM25",
    "DSIR",
    "Attributed",
    "Choice",
    "Classifier",
    "ComputeMultiplier",
    "Less",
    "Perplexity",
    "Pool",
    "Random",
    "SelectionFinding",
    "SelectionRow",
    "Selector",
    "SemanticDeduplication",
    "Similarity",
    "compare_selections",
    "compute_multiplier",
    "duplicate_rate",
    "near_duplicates",
    "scores_of",
    "select",
    "write_index",
]
