"""Progress of long work: a live bar on a terminal, plain lines on a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_INTERVAL = 10.0
"""Seconds between two lines on a pipe."""


class Progress(Protocol):
    """What the work tells."""

    def advance(self, n: int = 1) -> None:
        """`n` more units are done."""

    def note(self, text: str) -> None:
        """Show `text` (a loss, a file name) behind the numbers."""


class Silent:
    """Tells nothing: for processes of which another one speaks."""

    def advance(self, n: int = 1) -> None:
        """Nothing to see."""

    def note(self, text: str) -> None:
        """Nothing to read."""


def say(line: str) -> None:
    """Print a line at once; a reader that has gone away (``| head``) does not stop the work."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        silence(sys.stdout.fileno())


def silence(descriptor: int) -> None:
    """Send what is still written to `descriptor` nowhere, so that flushing it at exit does not fail either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s`` or ``5 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(per_second: float) -> str:
    """A rate with as many digits as are worth reading."""
    return f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


class _Lines:
    """Plain lines, at most one every `PLAIN_INTERVAL` seconds and one at the end."""

    def __init__(self, label: str, total: int, unit: str, done: int) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.text = ""
        self.began = self.spoke = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.spoke >= PLAIN_INTERVAL and self.done < self.total:
            self.spoke = now
            speed = (self.done - self.first) / (now - self.began)
            left = duration((self.total - self.done) / speed) + " left" if speed > 0 else "just begun"
            self._say(speed, left)

    def note(self, text: str) -> None:
        self.text = text

    def finish(self) -> None:
        passed = max(time.monotonic() - self.began, 1e-9)
        self._say((self.done - self.first) / passed, f"in {duration(passed)}")

    def _say(self, speed: float, when: str) -> None:
        parts = [f"{self.label}: {self.done}/{self.total} {self.unit}", rate(speed), when, self.text]
        say(", ".join(part for part in parts if part))


@contextmanager
def _bar(label: str, total: int, unit: str, done: int) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    class Bar:
        def advance(self, n: int = 1) -> None:
            display.advance(task, n)
            passed = time.monotonic() - began
            display.update(task, rate=rate((display.tasks[0].completed - done) / passed if passed else 0.0))

        def note(self, text: str) -> None:
            display.update(task, text=text)

    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    began = time.monotonic()
    with Display(*columns) as display:
        task = display.add_task(label, total=total, completed=done, unit=unit, rate="", text="")
        yield Bar()


@contextmanager
def progress(label: str, total: int, unit: str = "pictures", done: int = 0) -> Iterator[Progress]:
    """Show how far the work `label` is, its rate and the time left.

    `done` units of `total` were finished by an earlier run; they do not count for the rate.
    """
    if sys.stdout.isatty():
        with _bar(label, total, unit, done) as bar:
            yield bar
        return
    lines = _Lines(label, total, unit, done)
    yield lines
    lines.finish()
