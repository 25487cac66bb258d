"""The global random states, which belong to the user."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def fork() -> AbstractContextManager[None]:
    """A context in which `torch.manual_seed` may be called; the states of the CPU and of all CUDA devices in
    use, which it sets, come back afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return torch.random.fork_rng(devices=devices)
