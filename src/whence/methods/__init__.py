"""Ways to estimate attribution: one file, one class each. `regression` holds the solvers, on plain arrays."""

from whence.methods.banzhaf import Banzhaf
from whence.methods.base import Method
from whence.methods.bm25 import BM25
from whence.methods.datamodel import Datamodel
from whence.methods.difference import DifferenceOfMeans
from whence.methods.graddot import GradCos, GradDot, TracIn
from whence.methods.guided import GuidedDatamodel
from whence.methods.influence import Influence
from whence.methods.leave_one_out import LeaveOneOut
from whence.methods.metagradient import MAGIC
from whence.methods.random import Random
from whence.methods.similarity import Similarity
from whence.methods.trak import TRAK

__all__ = [
    "BM25",
    "Banzhaf",
    "Datamodel",
    "DifferenceOfMeans",
    "GradCos",
    "GradDot",
    "GuidedDatamodel",
    "Influence",
    "LeaveOneOut",
    "MAGIC",
    "Method",
    "Random",
    "Similarity",
    "TRAK",
    "TracIn",
]
