"""Kills every stage before its file operations; the same command must then end with the same bytes.

``python tests/kills.py`` kills before all operations, ``--limit N`` before some of each stage, evenly spread. Each
runs in a fork of this process, which has imported everything and computed nothing; an audit hook sends SIGKILL. After a
kill the outputs are removed, as DVC does, and the stage runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import typer
import yaml

from stages import finished
from stages.declaration import Declaration, declarations
from threedgp.commands.preset import preset_values
from threedgp.config import load_config

ROOT = Path(__file__).resolve().parent.parent
SMALLER = {
    "download": {"count": 24},
    "prepare": {"shard_rows": 12},
    "shards": {"rows_per_shard": 12},
    "train": {"kimg": 0.016, "batch_size": 4, "metric_samples": 8, "pictures_kimg": 0.016, "metric_kimg": 0.016},
    "evaluate": {"samples": 10, "real_samples": 10, "nfs_samples": 2, "metrics": ["frechet", "swd", "cameras"]},
    "render": {"grid": [1, 2], "views": 2, "flights": 1, "flight_frames": 2, "interpolation": 0, "mesh_resolution": 12},
    "machine": {"device": "cpu", "processes": 1, "workers": 1},
}
OF_THE_MACHINE = ("images_per_second", "memory_gb", "gpu_days")
"""Results that no two runs share."""
SLOW_STAGES = ("features", "embed", "select", "train", "evaluate", "report")
FACTOR = 5
"""Kills of a fast stage for one of a slow stage, with `--limit`."""
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.symlink"}


def set_up(project: Path) -> dict[str, Declaration]:
    """A project without data, with the stages in their order."""
    project.mkdir()
    (project / ".dvc").mkdir()
    shutil.copy(ROOT / "dvc.yaml", project)
    values = preset_values("smoke")
    for section, changes in SMALLER.items():
        values[section] |= changes
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    os.chdir(project)
    return declarations(load_config(Path("params.yaml")))


def run(stage: str, log: Path, kill_at: int = 0) -> tuple[int, int]:
    """Run a stage in a fork, killed before file operation `kill_at`; the wait status and the number of operations."""
    count_file = log.with_suffix(".count")
    count_file.write_bytes(bytes(8))
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        counter = os.open(count_file, os.O_WRONLY)
        done = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal done
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or event in OPERATIONS:
                place = os.fspath(arguments[0]) if not isinstance(arguments[0], int) else ""
                if "__pycache__" in place or (os.path.isabs(place) and not place.startswith(os.getcwd())):
                    return
                done += 1
                os.pwrite(counter, done.to_bytes(8, "little"), 0)
                if done == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(hook)
            importlib.import_module(f"stages.{stage}").main(Path("params.yaml"))
            code = 0
        except (typer.Exit, SystemExit) as ended:
            code = getattr(ended, "exit_code", None) or getattr(ended, "code", None) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status, int.from_bytes(count_file.read_bytes(), "little")


def digest(outs: tuple[Path, ...]) -> dict[str, str]:
    """Hash of every file of the outputs, without what is of the machine."""
    found = {}
    for out in outs:
        for file in sorted([out, *out.rglob("*")]):
            if file.is_file() and file.stem not in OF_THE_MACHINE:
                found[str(file)] = hashlib.sha256(_content(file)).hexdigest()
    return found


def _content(file: Path) -> bytes:
    if file.suffix not in (".json", ".jsonl"):
        return file.read_bytes()
    texts = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    strip = lambda values: {key: value for key, value in values.items() if key not in OF_THE_MACHINE}  # noqa: E731
    return json.dumps([json.loads(text, object_hook=strip) for text in texts]).encode()


def remove(outs: tuple[Path, ...]) -> None:
    """Remove outputs, as DVC does before it runs a stage."""
    for out in outs:
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)


def record(stage: Declaration) -> None:
    """Write the entry of the stage into ``dvc.lock``."""
    lock = yaml.safe_load(finished.DVC_LOCK.read_text()) if finished.DVC_LOCK.exists() else {"stages": {}}
    lock["stages"][stage.name] = {"outs": [{"path": str(out), "md5": finished.dvc_md5(out)} for out in stage.outs]}
    finished.DVC_LOCK.write_text(yaml.safe_dump(lock))


def import_all() -> None:
    """Import what the stages import when they run, so that their forks start at once."""
    files = [file for package in ("stages", "threedgp") for file in sorted((ROOT / package).rglob("[!_]*.py"))]
    for name in (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files):
        with contextlib.suppress(ImportError):  # Triton, for instance
            importlib.import_module(name)
    importlib.import_module("dvclive")


def main() -> None:
    """Kill, run again, compare; the process fails at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=0, help="kills of a slow stage; 0 = before every operation")
    parser.add_argument("--stage", help="only this stage")
    options = parser.parse_args()
    import_all()
    with tempfile.TemporaryDirectory() as folder:
        project, copy, log = Path(folder, "project"), Path(folder, "copy"), Path(folder, "log")
        for name, stage in set_up(project).items():
            if options.stage in (None, name):
                kill(name, stage, project, copy, log, options.limit)
            os.chdir(project)
            assert run(name, log)[0] == 0, log.read_text()
            record(stage)


def kill(name: str, stage: Declaration, project: Path, copy: Path, log: Path, limit: int) -> None:
    """Kill one stage before its operations, each time in a fresh copy of `project`."""

    def fresh() -> None:
        os.chdir("/")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(project, copy, symlinks=True)
        os.chdir(copy)

    start = time.monotonic()
    fresh()
    status, total = run(name, log)
    assert status == 0, log.read_text()
    expected = digest(stage.outs)
    limit *= 1 if name in SLOW_STAGES else FACTOR
    points = sorted({1 + total * number // limit for number in range(limit)}) if limit else range(1, total + 1)
    for point in points:
        fresh()
        status, _ = run(name, log, point)
        assert os.WIFSIGNALED(status) or status == 0, log.read_text()
        remove(stage.outs)
        status, _ = run(name, log)
        assert status == 0, f"{name}, killed before operation {point} of {total}:\n{log.read_text()}"
        found = digest(stage.outs)
        assert found == expected, (name, point, sorted(set(found.items()) ^ set(expected.items())))
    print(f"{name}: killed {len(points)} times before {total} operations, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
