"""Progress of long work: a live bar on a terminal, plain lines on a pipe."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PLAIN_INTERVAL = 10.0
"""Seconds between two lines on a pipe."""
_is_hidden = ContextVar("is_hidden", default=False)


class Progress:
    """Receives the progress of some work. The base class shows nothing."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more finished units."""

    def note(self, text: str) -> None:
        """Show `text`, such as a loss or a file name, behind the numbers."""


CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in b"\t\n"}
"""Replaces the characters with which names from files could control a terminal."""


def print_all_characters() -> None:
    """From now on escape what the encoding of the output lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


def is_closed(error: OSError) -> bool:
    """Whether `error`, of a write to the output, says that its pipe (``| head``) or its terminal was closed."""
    return error.errno in (errno.EPIPE, errno.EIO)


def say(line: str) -> None:
    """Print a line and flush; a closed pipe or terminal does not stop the work."""
    try:
        print(line.translate(CONTROL), flush=True)
    except OSError as error:
        if not is_closed(error):
            raise
        silence(sys.stdout.fileno())


def silence(descriptor: int) -> None:
    """Redirect `descriptor` to the null device, so that flushing it at exit does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def duration(seconds: float) -> str:
    """A duration such as ``42 s``, ``3 min 20 s`` or ``5 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(per_second: float) -> str:
    """A rate with two significant digits, or as an integer from 10 on."""
    return f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


def amount(num_bytes: float) -> str:
    """A number of bytes such as ``1.3 GB``, ``512.0 kB`` or ``0 B``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes:.0f} B"


class _Lines(Progress):
    """Prints at most one line every `PLAIN_INTERVAL` seconds, and one at the end."""

    def __init__(self, label: str, total: int, unit: str, done: int) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.text = ""
        self.start = self.last_line = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last_line >= PLAIN_INTERVAL and self.done < self.total:
            self.last_line = now
            speed = (self.done - self.first) / (now - self.start)
            left = duration((self.total - self.done) / speed) + " left" if speed > 0 else "starting"
            self._print(speed, left)

    def note(self, text: str) -> None:
        self.text = text

    def finish(self) -> None:
        passed = max(time.monotonic() - self.start, 1e-9)
        self._print((self.done - self.first) / passed, f"in {duration(passed)}")

    def _print(self, speed: float, when: str) -> None:
        parts = [f"{self.label}: {self.done}/{self.total} {self.unit}", rate(speed), when, self.text]
        say(", ".join(part for part in parts if part))


@contextmanager
def _bar(label: str, total: int, unit: str, done: int) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    class Bar(Progress):
        def advance(self, n: int = 1) -> None:
            display.advance(task, n)
            passed = time.monotonic() - start
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
    start = time.monotonic()
    display = Display(*columns)
    display.start()
    try:
        task = display.add_task(label, total=total, completed=done, unit=unit, rate="", text="")
        yield Bar()
    finally:
        try:
            display.stop()
        except OSError as error:
            if not is_closed(error):
                raise
            silence(sys.stdout.fileno())


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Show no progress within the context."""
    token = _is_hidden.set(True)
    try:
        yield
    finally:
        _is_hidden.reset(token)


@contextmanager
def progress(label: str, total: int, unit: str = "images", done: int = 0, visible: bool = True) -> Iterator[Progress]:
    """Show the progress of the work `label`, its rate and the remaining time. `done` units of `total`, which an earlier
    run has finished, do not count for the rate. It is not `visible` in processes of which another one shows the
    progress."""
    if not visible or _is_hidden.get():
        yield Progress()
    elif sys.stdout.isatty():
        with _bar(label, total, unit, done) as bar:
            yield bar
    else:
        lines = _Lines(label, total, unit, done)
        yield lines
        lines.finish()
