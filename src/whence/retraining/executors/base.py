"""What an executor is: something that measures how fast a study trains and then works off jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from whence.bank import Bank
from whence.retraining.progress import Reporter
from whence.retraining.work import Job
from whence.study.trainer import Retrained


class Executor(ABC):
    """Spreads jobs over processes or machines. Used as a context manager; leaving it ends its workers.

    Whatever is given a job runs `whence.retraining.work.do`, which commits the block itself, so an executor
    moves small messages only and may lose a worker at any moment."""

    workers: int

    @abstractmethod
    def measure(self, plan: Any) -> tuple[dict[str, Any], dict[int, Retrained]]:
        """Let a worker train the first rows: how to train (as `Trainer.choose`), and these rows."""

    @abstractmethod
    def run(self, bank: Bank, jobs: Sequence[Job], reporter: Reporter) -> None:
        """Work off all jobs; return when each is committed, by this process or by another that claimed it
        first.

        Raises
        ------
        RetrainingError : a job cannot be done. DiskFullError : no space left.
        """

    def close(self) -> None:
        """End workers; what they had not committed is lost and will be made again."""
        return

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
