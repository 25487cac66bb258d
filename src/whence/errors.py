"""The one exception users of whence meet when what they passed cannot work."""

from __future__ import annotations


class InputError(ValueError):
    """What was passed cannot work. The message is one sentence: the argument, what came, what would do."""
