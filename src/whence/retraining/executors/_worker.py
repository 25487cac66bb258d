"""A worker process: receives jobs on a pipe, trains and commits, answers in a few words."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from whence.bank import Bank, BankError, DiskFullError
from whence.errors import InputError
from whence.retraining import work


def main(
    study: Any,
    device: str | None,
    threads: int | None,
    pipe: Connection,
    inherited: Sequence[Connection],
    log: str,
    parent: int,
) -> None:
    """Serve until the pipe closes. `inherited` are the parent's ends of pipes that a fork copied."""
    for (
        connection
    ) in inherited:  # else a sibling would keep a pipe open and no end of it would ever see the parent die
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _redirect(log)
    if threads is not None:
        _limit_threads(threads)
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True).start()
    try:
        _serve(study, device, pipe)
    except (EOFError, OSError, BrokenPipeError):  # the parent is gone or closed the pipe
        return


def _serve(study: Any, device: str | None, pipe: Connection) -> None:
    bank: Bank | None = None
    trainer = None
    pipe.send(("ready",))
    while True:
        kind, *rest = pipe.recv()
        if kind == "stop":
            return
        try:
            if kind == "measure":
                answer: tuple[Any, ...] = ("measured", *work.measure(study, device, *rest))
            else:
                path, job = rest
                if bank is None or str(bank.path) != path:
                    bank = Bank.open(path, study)
                    trainer = study.trainer(device, engine=bank.engine)
                assert trainer is not None
                answer = ("done", work.do(job, bank, trainer))
        except InputError as problem:
            answer = ("failed", "input", str(problem))
        except DiskFullError as problem:
            answer = ("failed", "disk", str(problem))
        except BankError as problem:
            answer = ("failed", "bank", str(problem))
        except Exception:
            answer = ("failed", "error", traceback.format_exc(limit=-6))
        pipe.send(answer)


def _redirect(log: str) -> None:
    """Send what user code prints, also from C, to a file that the parent shows when the worker dies.

    Fresh stream objects are needed: after a fork the inherited ones may hold a lock that nobody will release.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")


def _limit_threads(threads: int) -> None:
    """Use `threads` threads for every kernel in this process.

    After a fork this is a matter of life and death: GNU OpenMP hangs in a child that opens a parallel region
    when its parent had opened one. With a single thread no region is opened, so user code must not raise the
    number again either, which it would do to no profit: all cores have a worker."""
    import torch

    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    torch.set_num_threads = lambda nthreads: None
    if "sklearn" in sys.modules or "scipy" in sys.modules:
        try:
            import threadpoolctl
        except ImportError:
            return
        threadpoolctl.threadpool_limits(threads)


def _leave_with_parent(parent: int) -> None:
    """End this process when its parent was killed: nobody would read the answer, and the cores are wanted."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
