"""What can end a run of retrainings other than a wrong argument."""

from __future__ import annotations


class RetrainingError(RuntimeError):
    """Training cannot go on; the message has the worker's own words. Committed rows are kept."""
