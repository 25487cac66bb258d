"""A pool of worker processes that may die: each has its own pipe, so a killed one can spoil nothing
shared."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from whence.retraining.errors import RetrainingError
from whence.retraining.executors import _worker

LAST_WORDS = 2_000


@dataclass
class Worker:
    """One process, the device it trains on, and the job it has, if any."""

    process: Any
    pipe: Connection
    device: str | None
    log: Path
    job: Any = None

    def last_words(self) -> str:
        """How it ended and the end of what it printed."""
        self.process.join(5)
        code = self.process.exitcode
        how = f"It ended with exit code {code}"
        if code is not None and code < 0:
            how = f"It was ended by signal {-code}"
            if code == -9:
                how += " (often: no memory left; try fewer workers)"
        text = self.log.read_text(errors="replace")[-LAST_WORDS:].strip() if self.log.exists() else ""
        return f"{how}. Its last words:\n{text}" if text else f"{how}, without a word."


class Pool:
    """Workers, one for each entry of `devices` (None: the CPU), started by `method` ("fork" or "spawn")."""

    def __init__(self, study: Any, devices: Sequence[str | None], threads: int | None, method: str) -> None:
        self.study, self.threads = study, threads
        self._context = multiprocessing.get_context(method)
        self._method = method
        self._folder = Path(tempfile.mkdtemp(prefix="whence-workers-"))
        self._count = 0
        self.workers: list[Worker] = []
        try:
            for device in devices:
                self.workers.append(self._start(device))
        except BaseException:
            self.close()
            raise

    def _start(self, device: str | None) -> Worker:
        mine, theirs = self._context.Pipe()
        log = self._folder / f"{self._count}.log"
        self._count += 1
        inherited = [worker.pipe for worker in self.workers] + [mine] if self._method == "fork" else []
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_worker.main,
            args=(self.study, device, self.threads, theirs, inherited, str(log), os.getpid()),
            name=f"whence-worker-{self._count}",
        )
        process.start()
        theirs.close()
        return Worker(process, mine, device, log)

    def replace(self, worker: Worker) -> None:
        """Start a new worker in the place of one that died."""
        self._end(worker)
        self.workers.remove(worker)
        self.workers.append(self._start(worker.device))

    def send(self, worker: Worker, message: tuple[Any, ...]) -> None:
        """Give a worker something to do; that it died is noticed by `receive`."""
        try:
            worker.pipe.send(message)
        except OSError:
            return

    def receive(self, timeout: float) -> list[tuple[Worker, tuple[Any, ...] | None]]:
        """Answers that came within `timeout` seconds; None for a worker that died."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        answers: list[tuple[Worker, tuple[Any, ...] | None]] = []
        for pipe in multiprocessing.connection.wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                answers.append((worker, worker.pipe.recv()))
            except (EOFError, OSError):
                answers.append((worker, None))
        return answers

    def wait_ready(self) -> None:
        """Wait until every worker has started; `RetrainingError` with its words when one cannot."""
        waiting = set(map(id, self.workers))
        while waiting:
            for worker, answer in self.receive(1.0):
                if answer is None:
                    raise RetrainingError(f"a worker process could not start. {worker.last_words()}")
                waiting.discard(id(worker))

    def close(self) -> None:
        """End all workers at once, in the middle of whatever they do: what is not committed is made again
        later."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            self._end(worker)
        self.workers = []
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _end(worker: Worker) -> None:
        worker.process.join(2)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(5)
        worker.pipe.close()
