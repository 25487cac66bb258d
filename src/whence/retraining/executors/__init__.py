"""executors: the ways to spread retrainings. `local` here; a cluster's are added beside it."""

from whence.retraining.executors.base import Executor
from whence.retraining.executors.inline import Inline
from whence.retraining.executors.local import local

__all__ = ["Executor", "Inline", "local"]
