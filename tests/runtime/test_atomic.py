import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError


def test_content_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "part.parquet"
    with atomic.atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".parquet" and temporary.parent == target.parent
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_error_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_kill_keeps_the_old_content_and_the_next_write_cleans_up(tmp_path: Path, root: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    script = (
        "import sys, time; from pathlib import Path; from threedgp.runtime.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('written', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(target)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    atomic.write_bytes(target, b"new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_determines_who_can_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic.atomic_path(tmp_path / "model.safetensors") as temporary:
            save_file({"x": torch.zeros(2)}, temporary)
        assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_links_keep_the_permissions_of_their_file(tmp_path: Path) -> None:
    source = tmp_path / "secret"
    source.write_text("x")
    source.chmod(0o400)
    with atomic.atomic_path(tmp_path / "link") as temporary:
        os.link(source, temporary)
    assert stat.S_IMODE(source.stat().st_mode) == 0o400


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    target = tmp_path / "metrics.json"
    not_text = os.fsdecode(b"\xff.png")  # a file name that is not UTF-8
    atomic.write_json(target, {"swd": 0.25, "name": not_text})
    assert json.loads(target.read_text(encoding="utf-8"))["name"] == not_text
    atomic.write_json(target, {"swd": 0.25, "name": "é"})
    assert json.loads(target.read_text()) == {"swd": 0.25, "name": "é"}
    assert target.read_text().endswith("}\n")
    with pytest.raises(ValueError):
        atomic.write_json(target, {"swd": math.nan})
    assert json.loads(target.read_text())["swd"] == 0.25


@pytest.mark.parametrize("old", [None, "file", "folder", "link"])
def test_publish_replaces_anything(tmp_path: Path, old: str | None) -> None:
    target = tmp_path / "out" / "result"
    target.parent.mkdir()
    elsewhere = tmp_path / "cache"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("cached")
    if old == "file":
        target.write_text("old")
    elif old == "folder":
        target.mkdir()
        (target / "stale").write_text("old")
    elif old == "link":  # what DVC leaves with cache type symlink
        target.symlink_to(elsewhere)
    built = tmp_path / "scratch"
    built.mkdir()
    (built / "fresh").write_text("new")

    atomic.publish(built, target)

    assert not target.is_symlink() and [file.name for file in target.iterdir()] == ["fresh"]
    assert list(target.parent.iterdir()) == [target] and not built.exists()
    assert (elsewhere / "kept").read_text() == "cached"


def test_publish_from_another_file_system(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev or not os.access(memory, os.W_OK):
        pytest.skip("there is no second file system to write to")
    built = memory / f"threedgp-test-{os.getpid()}-{time.monotonic_ns()}"
    built.write_text("new")
    atomic.publish(built, tmp_path / "result")
    assert (tmp_path / "result").read_text() == "new" and not built.exists()


def test_require_free_names_the_folder(tmp_path: Path) -> None:
    atomic.require_free(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(UserError, match=r"data.*about 1,000,000,000\.0 GB are needed and .* GB are free"):
        atomic.require_free(tmp_path / "data", 10**18)


def test_small_disks_have_small_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 2500, 2500))
    with pytest.raises(UserError, match=r"about 4\.5 MB are needed and 2\.5 kB are free"):
        atomic.require_free(tmp_path, 4_500_000)
