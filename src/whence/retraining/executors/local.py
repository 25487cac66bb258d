"""This machine: which processes on which devices, decided for the user."""

from __future__ import annotations

import pickle
import sys
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING

import torch

from whence.errors import InputError
from whence.provenance import usable_cores
from whence.retraining.errors import RetrainingError
from whence.retraining.executors.base import Executor
from whence.retraining.executors.inline import Inline
from whence.retraining.executors.processes import Processes

if TYPE_CHECKING:
    from whence.study import Study


def local(
    study: Study, workers: int | None = None, device: str | None = None, most: int | None = None
) -> Executor:
    """An executor for this machine.

    - No accelerator: a worker with one thread on each usable core. Independent models need no
    synchronisation,
      which threads inside one model pay at every layer, so this is the fastest split for any model that fits.
    - One accelerator: this process, for the engine fills the device by stacking models.
    - Several: a worker on each.

    On Linux CPU workers are forked, so that the study may be anything, in a script without ``if __name__ ==
    "__main__"`` or a notebook; elsewhere they are spawned if the study can be pickled. Where no worker can be
    had, training goes on in this process.

    Parameters
    ----------
    workers : processes; 0 trains in this process (for a debugger), None chooses.
    device : "cpu", "cuda", "cuda:1", "mps"; None chooses.
    most : workers that could be of use.
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers must be 0 (this process) or more, received {workers}.")
    devices = _devices(study, device)
    if workers == 0 or (devices != [None] and len(devices) == 1 and workers in (None, 1)):
        return Inline(study, devices[0])
    if devices == [None]:
        count = min(workers or usable_cores(), most or sys.maxsize)
        return _processes(study, [None] * max(1, count), 1)
    count = workers or len(devices)
    return _processes(study, [devices[i % len(devices)] for i in range(count)], None)


def _devices(study: Study, device: str | None) -> list[str | None]:
    """Devices to train on; ``[None]`` is the CPU."""
    kind = study.describe()["method"]["kind"]
    if device == "cpu" or kind in ("function", "estimator"):  # these choose their devices themselves
        return [None]
    if device is not None and device != "cuda":
        return [device]
    count = torch.cuda.device_count()
    if device == "cuda" and count == 0:
        raise InputError(
            "device='cuda' was asked for, but this PyTorch sees no CUDA device; use device='cpu'."
        )
    return [f"cuda:{i}" for i in range(count)] or [None]


def _processes(study: Study, devices: list[str | None], threads: int | None) -> Executor:
    # A process that has used CUDA cannot be forked into one that does too; a function may use it unseen.
    forkable = sys.platform == "linux" and devices[0] is None and not torch.cuda.is_initialized()
    if forkable:
        return Processes(study, devices, threads, "fork")
    try:
        ForkingPickler.dumps(study)
        return Processes(study, devices, threads, "spawn")
    except (pickle.PicklingError, AttributeError, TypeError, RetrainingError) as problem:
        print(
            f"whence: no worker processes ({str(problem).splitlines()[0]}); training in this process.",
            file=sys.stderr,
        )
        return Inline(study, devices[0])
