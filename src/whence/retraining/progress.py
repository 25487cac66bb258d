"""Showing a long run: a bar on a terminal, now and then a line in a log, or nothing."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LINE_SECONDS = 30.0


class Reporter:
    """Counts retrainings and shows them, with models per second and the time that is left.

    The display has no thread of its own (workers are forked while it is up): call `advance` or `tick` often.
    """

    def __init__(self, path: Path, committed: int, total: int, show: bool = True) -> None:
        self.path, self.committed, self.total = path, committed, total
        self.made = self.failed = 0
        self.started = self._last_line = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._lines = show and not self._console.is_terminal
        if show and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]retraining[/]"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                _Left(),
                TextColumn("[red]{task.fields[failed]}[/]"),
                console=self._console,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=total, completed=committed, failed="", rate=None)

    def __enter__(self) -> Reporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
        elif self._lines and self.made:
            self._line()

    def advance(self, rows: int, failed: int = 0) -> None:
        """`rows` retrainings were committed by this run, of which `failed` have no usable output."""
        self.committed += rows
        self.made += rows
        self.failed += failed
        if self._bar is not None:
            words = f"{self.failed} failed" if self.failed else ""
            self._bar.update(self._task, completed=self.committed, failed=words, rate=self.rate)
        self.tick()

    def found(self, committed: int) -> None:
        """Another process committed rows too."""
        self.committed = committed
        if self._bar is not None:
            self._bar.update(self._task, completed=committed)

    def tick(self) -> None:
        """Redraw."""
        if self._bar is not None:
            self._bar.refresh()
        elif self._lines and time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            self._line()

    def note(self, text: str) -> None:
        """Say something once, above the bar."""
        if self._bar is not None or self._lines:
            self._console.print(text, highlight=False, soft_wrap=True)

    @property
    def rate(self) -> float:
        """Models per second of this run."""
        return self.made / max(time.monotonic() - self.started, 1e-9)

    def _line(self) -> None:
        left = _duration((self.total - self.committed) / self.rate) if self.made else "?"
        failed = f", {self.failed} failed" if self.failed else ""
        self._console.print(
            f"retraining: {self.committed:,} of {self.total:,}, {self.rate:.3g} models/s, {left} left"
            f"{failed}",
            highlight=False,
        )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.fields["rate"]
        return Text("" if rate is None else f"{rate:.3g} models/s", style="cyan")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.fields["rate"]
        if not rate or task.total is None:
            return Text("")
        return Text(f"{_duration((task.total - task.completed) / rate)} left", style="dim")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
