"""DVC's own files after a kill: recognized as DVC itself does, and moved aside while nothing runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import filelock
import pytest
from dvc.cli import main as dvc

from threedgp.commands.dvc_files import BUSY, LOCK_FILE, READERS, damaged_files, repair
from threedgp.commands.scratch import scratch_bytes
from threedgp.runtime.errors import UserError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with one stage, which has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Path("dvc.yaml").write_text("stages: {make: {cmd: echo made > out, outs: [out]}}\n")
    assert dvc(["init", "--no-scm", "--quiet"]) == dvc(["repro", "--quiet"]) == 0
    return tmp_path


@pytest.mark.parametrize("length", [0, 14, 30, 45])
def test_a_lock_file_that_is_cut_is_damaged_if_dvc_does_not_read_it(length: int) -> None:
    whole = LOCK_FILE.read_bytes()
    LOCK_FILE.write_bytes(whole[:length])
    is_read = dvc(["status"]) == 0
    assert damaged_files() == ([] if is_read else [LOCK_FILE])
    assert is_read == (length in (14, 45))


@pytest.mark.parametrize(("content", "is_read"), [("", False), ('{"a', False), ("{}", True)])
def test_a_file_of_readers_and_writers_that_is_cut(content: str, is_read: bool) -> None:
    READERS.write_text(content)
    assert damaged_files() == ([] if is_read else [READERS])
    assert (dvc(["repro", "--quiet"]) == 0) == is_read


def test_repair_moves_them_aside_while_nothing_runs(project: Path) -> None:
    assert repair() == []
    READERS.write_text("")
    LOCK_FILE.write_text("schem")
    for lock in (BUSY, Path(".scratch/locks/train.lock")):
        lock.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock), pytest.raises(UserError, match=rf"{lock}: DVC or a stage is running"):
            repair()
    assert repair() == [LOCK_FILE, READERS]
    assert damaged_files() == []
    assert (project / ".dvc/tmp/damaged/dvc.lock").read_text() == "schem"
    (project / "out").unlink()
    (project / "dvc.yaml").write_text("stages: {make: {cmd: echo made > out, outs: [out]}}\n")
    assert dvc(["repro", "--quiet"]) == 0 and (project / "out").read_text() == "made\n"


def test_check_and_doctor_name_the_file_and_repair_it(
    threedgp, refused, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LOCK_FILE.write_text("schem")
    assert refused("check", "--params", root / "params.yaml").startswith("dvc.lock: DVC was killed while")
    capsys.readouterr()
    assert "dvc.lock: DVC was killed" in threedgp("doctor", "--params", root / "params.yaml").out
    assert "dvc.lock: moved to" in threedgp("doctor", "--repair").out
    assert threedgp("check", "--params", root / "params.yaml").code == 0


def test_old_scratch_is_removed(threedgp, project: Path) -> None:
    for stage, age in (("train", 9), ("train", 3), ("embed", 9)):
        folder = project / ".scratch" / stage / f"days-{age}"
        folder.mkdir(parents=True)
        (folder / "state").write_bytes(bytes(100))
        for place in (folder / "state", folder):
            os.utime(place, (0, time.time() - age * 86400))
    assert scratch_bytes() == 300
    with filelock.FileLock(project / ".scratch" / "locks" / "embed.lock"):
        out = threedgp("doctor", "--repair", "--remove-scratch", 5).out
        assert "No file of DVC is damaged" in out and "that no run has touched for 5 days" in out
    left = {f"{place.parent.name}/{place.name}" for place in (project / ".scratch").glob("*/days*")}
    assert left == {"train/days-3", "embed/days-9"}


def test_check_names_a_folder_that_cannot_be_written(refused, root: Path) -> None:
    Path("results").symlink_to("/proc/self")
    assert "check: results cannot be written" in refused("check", "--params", root / "params.yaml")
