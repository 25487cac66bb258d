"""Training in worker processes on this machine: a worker for each core, or for each accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whence.bank import Bank, BankError, DiskFullError
from whence.errors import InputError
from whence.retraining.errors import RetrainingError
from whence.retraining.executors._pool import Pool, Worker
from whence.retraining.executors._queue import Queue
from whence.retraining.executors.base import Executor
from whence.retraining.progress import Reporter
from whence.retraining.work import Job
from whence.study.trainer import Retrained

if TYPE_CHECKING:
    from whence.study import Study

_ERRORS: dict[str, type[Exception]] = {"input": InputError, "disk": DiskFullError, "bank": BankError}


class Processes(Executor):
    """Workers that train and commit by themselves; this process hands out blocks and replaces the dead.

    Parameters
    ----------
    devices : one entry for each worker; None is the CPU.
    threads : threads of each worker's kernels, None to leave them alone.
    method : "fork" (the study may be anything) or "spawn" (it must be picklable).
    """

    def __init__(self, study: Study, devices: Sequence[str | None], threads: int | None, method: str) -> None:
        self.workers = len(devices)
        self._pool = Pool(study, devices, threads, method)
        try:
            self._pool.wait_ready()
        except BaseException:
            self._pool.close()
            raise

    def measure(self, plan: Any) -> tuple[dict[str, Any], dict[int, Retrained]]:
        """See `Executor.measure`. The other workers idle meanwhile; it takes seconds once in a bank's
        life."""
        worker = self._pool.workers[0]
        self._pool.send(worker, ("measure", plan))
        while True:
            for one, answer in self._pool.receive(1.0):
                if answer is None:
                    raise RetrainingError(f"the first retraining ended its worker. {one.last_words()}")
                if answer[0] == "failed":
                    raise _ERRORS.get(answer[1], RetrainingError)(answer[2])
                return answer[1], answer[2]

    def run(self, bank: Bank, jobs: Sequence[Job], reporter: Reporter) -> None:
        """See `Executor.run`."""
        queue = Queue(bank, jobs, reporter)
        try:
            while queue:
                for worker in self._pool.workers:
                    if worker.job is None:
                        self._give(worker, queue, bank)
                for worker, answer in self._pool.receive(0.2):
                    self._take(worker, answer, queue)
                queue.beat()
        finally:
            bank.claims.release_all()

    def _give(self, worker: Worker, queue: Queue, bank: Bank) -> None:
        worker.job = queue.next()
        if worker.job is not None:
            self._pool.send(worker, ("job", str(bank.path), worker.job))

    def _take(self, worker: Worker, answer: tuple[Any, ...] | None, queue: Queue) -> None:
        job, worker.job = worker.job, None
        if answer is None:
            why = worker.last_words()
            self._pool.replace(worker)
            if job is not None:
                queue.failed(job, why)
        elif answer[0] == "done":
            queue.done(job, answer[1])
        elif answer[0] == "failed":
            _, kind, text = answer
            if kind in _ERRORS:
                raise _ERRORS[kind](text)
            queue.failed(job, text)
        else:  # the "ready" of a replacement, to which nothing had been given or whose job is still to come
            worker.job = job

    def close(self) -> None:
        """See `Executor.close`."""
        self._pool.close()
