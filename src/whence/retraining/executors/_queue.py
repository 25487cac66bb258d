"""The order of jobs: what is left, what another process has, what failed and is tried again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

from whence.bank import Bank
from whence.retraining.errors import RetrainingError
from whence.retraining.progress import Reporter
from whence.retraining.work import Done, Job

ATTEMPTS = 3
HOPELESS_ROWS = 16
LOOK_SECONDS = 1.0


class Queue:
    """Jobs of one run. `next` gives one that is claimed for this process; `done` or `failed` closes it.

    Blocks that another process claims are looked at now and then: they are dropped once committed, and taken
    over when their claim goes stale."""

    def __init__(self, bank: Bank, jobs: Sequence[Job], reporter: Reporter) -> None:
        self.bank, self.reporter = bank, reporter
        self._waiting = deque(jobs)
        self._elsewhere: list[Job] = []
        self._open: set[int] = set()
        self._attempts: Counter[int] = Counter()
        self._looked = time.monotonic()

    def __bool__(self) -> bool:
        """True while a job is not finished, here or elsewhere."""
        return bool(self._waiting or self._elsewhere or self._open)

    def next(self) -> Job | None:
        """A job to start now, or None (there may be more later: see `bool`)."""
        self._look_elsewhere()
        while self._waiting:
            job = self._waiting.popleft()
            if not self.bank.claim(job.block):
                self._elsewhere.append(job)
            elif self._committed(job):  # looked at after the claim: its last owner may just have finished
                self.bank.claims.release(job.block)
                self._count()
            else:
                self._open.add(job.block)
                return job
        return None

    def done(self, job: Job, done: Done) -> None:
        """`job` is committed."""
        self._close(job)
        if job.only_checkpoints:
            self.reporter.tick()
            return
        self.reporter.advance(done.rows, done.failed)
        if self.reporter.failed == self.reporter.made >= HOPELESS_ROWS:
            raise RetrainingError(
                f"none of the first {self.reporter.made} retrainings has a usable output: {done.reason}. "
                "Stopped, for more would fare no better."
            )

    def failed(self, job: Job, why: str) -> None:
        """`job` was not committed; it is tried again, at most three times in all."""
        self._attempts[job.block] += 1
        if self._attempts[job.block] >= ATTEMPTS:
            start, stop = self.bank.rows_of(job.block)
            self._close(job)
            raise RetrainingError(
                f"block {job.block} (rows {start} to {stop - 1}) failed {ATTEMPTS} times. {why}"
            )
        self._open.discard(job.block)  # the claim stays: this process tries again
        self._waiting.appendleft(job)

    def beat(self) -> None:
        """Keep claims fresh and the display alive."""
        self.bank.claims.beat()
        self.reporter.tick()

    def _close(self, job: Job) -> None:
        self._open.discard(job.block)
        self.bank.claims.release(job.block)

    def _committed(self, job: Job) -> bool:
        return not job.only_checkpoints and self.bank.is_committed(job.block)

    def _look_elsewhere(self) -> None:
        """Once in a while: what did others commit, and what have they given up?"""
        now = time.monotonic()
        if not self._elsewhere or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        still = []
        for job in self._elsewhere:
            if self._committed(job):
                self._count()
            elif self.bank.claim(job.block):
                self._waiting.append(job)
            else:
                still.append(job)
        self._elsewhere = still

    def _count(self) -> None:
        self.reporter.found(self.bank.rows_committed)
