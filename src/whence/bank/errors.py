"""What can go wrong with a bank that is nobody's argument: damage, and a disk without space."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BankError(RuntimeError):
    """A bank cannot be read or written as it is; the message says what is wrong and what to do."""


class DiskFullError(BankError):
    """No space is left where the bank lies. Committed rows are untouched and the bank stays usable."""


@contextmanager
def disk_full_is_clear(path: Path, doing: str) -> Iterator[None]:
    """Turn ENOSPC and an exceeded quota inside the block into one `DiskFullError`."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"the disk is full: {doing} of {path} could not be written. Every committed row is safe; "
            "free some space and run the same call again to resume."
        ) from problem
