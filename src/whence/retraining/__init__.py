"""retraining: draws masks, spreads blocks over processes or machines, fills the bank."""

from whence.retraining.errors import RetrainingError
from whence.retraining.executors import Executor, Inline, local
from whence.retraining.retrain import retrain

__all__ = ["Executor", "Inline", "RetrainingError", "local", "retrain"]
