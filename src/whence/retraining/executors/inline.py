"""Training in this very process: one accelerator, a debugger, or a system where workers cannot be started."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whence.bank import Bank, BankError
from whence.errors import InputError
from whence.retraining import work
from whence.retraining.errors import RetrainingError
from whence.retraining.executors._queue import Queue
from whence.retraining.executors.base import Executor
from whence.retraining.progress import Reporter
from whence.retraining.work import Job
from whence.study.trainer import Retrained

if TYPE_CHECKING:
    from whence.study import Study


class Inline(Executor):
    """Works off jobs one after the other, in this process and with all its threads."""

    workers = 1

    def __init__(self, study: Study, device: str | None = None) -> None:
        self.study, self.device = study, device

    def measure(self, plan: Any) -> tuple[dict[str, Any], dict[int, Retrained]]:
        """See `Executor.measure`."""
        return work.measure(self.study, self.device, plan)

    def run(self, bank: Bank, jobs: Sequence[Job], reporter: Reporter) -> None:
        """See `Executor.run`."""
        trainer = self.study.trainer(self.device, engine=bank.engine)
        queue = Queue(bank, jobs, reporter)
        try:
            while queue:
                job = queue.next()
                if job is None:
                    queue.beat()
                    time.sleep(0.2)
                    continue
                try:
                    done = work.do(job, bank, trainer, queue.beat)
                except (InputError, BankError, RetrainingError):
                    raise
                except Exception:
                    queue.failed(job, traceback.format_exc(limit=-6))
                else:
                    queue.done(job, done)
        finally:
            bank.claims.release_all()
