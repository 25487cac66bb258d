"""What benchmarks share: a result that is written and printed, alternating timings, peak memory."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from whence.provenance import machine, versions

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs") / "benchmarks"  # banks of long benchmarks, so that they resume; git-ignored


@dataclass
class Result:
    """One run of a benchmark: settings, rows of numbers, and the claims they support or refute."""

    name: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # anything figures need beyond rows

    def row(self, **cells: Any) -> None:
        """Add a row of the table; rows may have different columns."""
        self.rows.append(cells)

    def claim(
        self,
        claim: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        interval: Sequence[float] | None = None,
    ) -> None:
        """Add a promised number, what was measured (with its interval) and whether it holds."""
        if (at_least is None) == (at_most is None):
            raise ValueError("pass at_least or at_most")
        holds = value >= at_least if at_least is not None else value <= at_most  # type: ignore[operator]
        self.claims.append(
            {
                "claim": claim,
                "value": float(value),
                "interval": None if interval is None else [float(end) for end in interval],
                "mark": f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}",
                "holds": bool(holds),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": machine(),
            "settings": self.settings,
            "rows": self.rows,
            "claims": self.claims,
            **({"details": self.details} if self.details else {}),
        }

    def write(self, quick: bool = False) -> Path:
        """To benchmarks/results/NAME.json, or NAME.quick.json (git-ignored) for a quick run."""
        path = RESULTS / f"{self.name}{'.quick' if quick else ''}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=1, default=_plain) + "\n")
        return path

    def print(self, console: Console | None = None) -> None:
        console = console or Console()
        settings = ", ".join(f"{key}={_short(value)}" for key, value in self.settings.items())
        console.print(f"[bold]{self.name}[/]  {settings}", highlight=False)
        for columns, rows in _tables(self.rows):
            table = Table(*columns)
            for cells in rows:
                table.add_row(*(_short(cells[column]) for column in columns))
            console.print(table)
        if self.claims:
            table = Table("claim", "measured", "interval", "mark", "holds")
            for claim in self.claims:
                holds = "[green]yes[/]" if claim["holds"] else "[red]NO[/]"
                ends = (
                    "" if claim["interval"] is None else " .. ".join(_short(end) for end in claim["interval"])
                )
                table.add_row(claim["claim"], _short(claim["value"]), ends, claim["mark"], holds)
            console.print(table)


def need_cuda() -> str:
    """The name of the GPU, for a benchmark that is of no use without one."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device, and this PyTorch sees none.")
    return torch.cuda.get_device_name()


def alternate(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each task, (rounds,): one after the other within a round, so that all see the same machine.

    The order turns around every round, so that none always runs after the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name in list(tasks) if number % 2 == 0 else reversed(tasks):
            start = time.perf_counter()
            tasks[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def spread(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Median, smallest and largest."""
    return float(np.median(values)), float(np.min(values)), float(np.max(values))


def peak_memory(task: Callable[..., Any], *arguments: Any) -> int:
    """Bytes by which the resident memory of a fresh process grows at most while it runs `task(*arguments)`.

    `task` is a module-level function; arguments are sent to the process before counting starts.
    """
    return measured(task, *arguments)[0]


def measured(
    task: Callable[..., Any], *arguments: Any, prepare: Callable[..., Any] | None = None
) -> tuple[int, Any]:
    """`peak_memory`, and what the task returns.

    `prepare`, a module-level function as well, is called with the arguments before counting starts, and the
    task with what it returns: what it holds is not the task's.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, task, arguments, prepare))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measure(
    sender: Any, task: Callable[..., Any], arguments: tuple[Any, ...], prepare: Callable[..., Any] | None
) -> None:
    import torch  # noqa: F401  # its own memory is not the task's

    if prepare is not None:
        arguments = (prepare(*arguments),)
    before = _resident()
    found = task(*arguments)
    sender.send((max(_highest() - before, 0), found))


def _highest() -> int:
    """The most bytes that were resident in this process so far. Linux's ``ru_maxrss`` would not do: a process
    inherits that of the one that started it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def _resident() -> int:
    """Bytes resident now (Linux) or at most so far (elsewhere)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _tables(rows: list[dict[str, Any]]) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """Consecutive rows with the same columns make one table."""
    tables: list[tuple[list[str], list[dict[str, Any]]]] = []
    for cells in rows:
        if not tables or tables[-1][0] != list(cells):
            tables.append((list(cells), []))
        tables[-1][1].append(cells)
    return tables


def _short(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
