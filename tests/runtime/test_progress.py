import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from threedgp.runtime import progress as module
from threedgp.runtime.progress import duration, progress, rate


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_pipe_gets_plain_lines_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("prepare", 4096, done=96) as bar:
        for _ in range(40):
            clock.now += 1
            bar.advance(100)
    assert capsys.readouterr().out.splitlines() == [
        "prepare: 1096/4096 images, 100/s, 30 s left",
        "prepare: 2096/4096 images, 100/s, 20 s left",
        "prepare: 3096/4096 images, 100/s, 10 s left",
        "prepare: 4096/4096 images, 100/s, in 40 s",
    ]


def test_note_stands_behind_the_numbers(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", 2, unit="kimg") as bar:
        bar.note("loss 0.7")
        clock.now += 4
        bar.advance(2)
    assert capsys.readouterr().out == "train: 2/2 kimg, 0.5/s, in 4 s, loss 0.7\n"


def test_failed_work_does_not_claim_to_be_finished(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), progress("prepare", 10):
        raise RuntimeError
    assert capsys.readouterr().out == ""


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("depth", 8) as bar:
        bar.advance(8)
        bar.note("all kept")
    assert "8/8" in terminal.getvalue() and "images" in terminal.getvalue() and "all kept" in terminal.getvalue()


def test_reader_that_goes_away_does_not_stop_the_work(tmp_path: Path, root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from threedgp.runtime import progress\n"
        "progress.PLAIN_INTERVAL = 0\n"
        "sys.stdin.readline()\n"
        "with progress.progress('work', 1000) as bar:\n"
        "    for _ in range(1000): bar.advance()\n"
        "Path(sys.argv[1]).write_text('done')\n"
    )
    done = tmp_path / "done"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(done)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    assert done.read_text() == "done"


def test_terminal_that_is_closed_does_not_stop_the_work(tmp_path: Path, root: Path) -> None:
    """As after the end of a connection in which a run was started in the background."""
    script = (
        "import os, sys; from pathlib import Path; from threedgp.runtime.progress import progress, say\n"
        "with progress('work', 10) as bar:\n"
        "    bar.advance(5)\n"
        "    os.write(2, b'begun\\n')\n"
        "    sys.stdin.readline()\n"
        "    say('half done')\n"
        "    bar.advance(5)\n"
        "say('all done')\n"
        "Path(sys.argv[1]).write_text('done')\n"
    )
    done, (terminal, stdout) = tmp_path / "done", os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(done)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(stdout)
    assert process.stderr.readline() == b"begun\n"
    os.close(terminal)
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.wait(300) == 0
    assert done.read_text() == "done"


def test_numbers_for_people() -> None:
    assert [duration(s) for s in (0.4, 59, 60, 3599, 3600, 90061)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 01 min",
    ]
    assert [rate(r) for r in (0.123, 3.21, 12.3, 1234.5)] == ["0.12/s", "3.2/s", "12/s", "1234/s"]
