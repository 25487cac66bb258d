"""Work on a simulator, spread over processes, with results in order."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from whence.errors import InputError

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def spread(
    function: Callable[[Job], Answer], jobs: Sequence[Job], processes: int = 1, words: str | None = None
) -> Iterator[Answer]:
    """What `function` (of a module) returns for each job, in order; `words` names a progress bar.

    With more than one process these are forked where that is possible, so that a script needs no guard.
    """
    from rich.console import Console
    from rich.progress import track

    if processes < 1:
        raise InputError(f"processes must be at least 1, received {processes}.")
    console = Console(stderr=True)

    def shown(answers: Iterator[Answer]) -> Iterator[Answer]:
        if words is None or not console.is_terminal:
            return answers
        return iter(track(answers, words, total=len(jobs), console=console))

    if processes == 1 or len(jobs) < 2:
        yield from shown(map(function, jobs))
        return
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _one_thread) as pool:
        yield from shown(pool.map(function, jobs))


def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
