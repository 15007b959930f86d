"""What each idea of 3DGP brings: five variants with three seeds each, at equal length, on procedural images.

    PYTHONPATH=. python benchmarks/ablations.py
    PYTHONPATH=. python benchmarks/ablations.py --jobs 1 --seeds 0 --variants full no_depth

Runs the stages of the pipeline in folders below .scratch/ablations, the data once, `train` and `evaluate` for each
variant and seed; the same command goes on where it was stopped, and what other code or settings made is made again.
Prints a table (mean and deviation over seeds); all numbers of a whole set of runs go to
benchmarks/results/ablations.json.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from measuring import environment

from threedgp.commands.preset import preset_values
from threedgp.config import parse_config
from threedgp.runtime.atomic import write_bytes, write_json
from threedgp.runtime.progress import progress

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".scratch" / "ablations"
RESULTS = ROOT / "benchmarks" / "results" / "ablations.json"
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_depth": {"model.depth": False},
    "no_adaptor": {"model.depth_adaptor.mode": "off"},
    "no_distillation": {"train.distillation.loss": "none"},
    "fixed_prior": {"camera.learned": False},
}
"""Settings that differ from the preset."""
COLUMNS = ["swd", "fd_efficientnet_lite0", "nfs", "camera_emd", "depth_swd"]
"""Columns of the table: images twice, geometry, learned cameras against the true ones, depth against the true one."""
DATA_STAGES = ("download", "prepare", "features", "select", "depth", "embed", "shards")


@functools.cache
def code_digest() -> bytes:
    """Changes with the code of stages and library."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in ("stages", "threedgp") for file in (ROOT / folder).rglob("*")):
        if file.suffix in (".py", ".cpp"):
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest().encode()


def write_params(folder: Path, preset: str, overrides: dict[str, Any]) -> None:
    """``params.yaml`` of `preset` with some settings changed, by dotted key."""
    values = preset_values(preset, ROOT / "presets")
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[key] = value
    parse_config(values, str(folder / "params.yaml"))
    content = yaml.safe_dump(values, sort_keys=False).encode()
    file = folder / "params.yaml"
    if not file.is_file() or file.read_bytes() != content:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)


def run_stages(folder: Path, stages: tuple[str, ...], threads: int) -> None:
    """Run stages in `folder`, their output to ``log.txt``; ends the program where one fails.

    A file ``<stage>.done`` says with which code and settings a stage has finished.
    """
    made_with = code_digest() + b"\n" + (folder / "params.yaml").read_bytes()
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
    for stage in stages:
        done = folder / f"{stage}.done"
        if done.is_file() and done.read_bytes() == made_with:
            continue
        with (folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", f"stages.{stage}"]
            code = subprocess.run(command, cwd=folder, env=environ, stdout=log, stderr=log).returncode
        if code:
            raise SystemExit(f"{folder.name}: stage {stage} ended with code {code}; see {folder / 'log.txt'}")
        write_bytes(done, made_with)


def run_variant(preset: str, variant: str, seed: int, threads: int) -> dict[str, Any]:
    """Train and evaluate one variant: its metrics."""
    folder = WORK / preset / f"{variant}-{seed}"
    write_params(folder, preset, {**VARIANTS[variant], "train.seed": seed})
    if not (folder / "data").exists():
        (folder / "data").symlink_to("../data", target_is_directory=True)
    run_stages(folder, ("train", "evaluate"), threads)
    metrics = json.loads((folder / "results" / "metrics.json").read_text(encoding="utf-8"))
    return {"variant": variant, "seed": seed, **metrics}


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Markdown: mean and deviation over seeds of each column, a line for each variant."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for column in columns:
            values = [row[column] for row in rows if row["variant"] == variant and column in row]
            spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3g}{spread}" if values else "")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="ablations")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    parser.add_argument("--columns", nargs="+", default=COLUMNS, help="metrics of the table")
    options = parser.parse_args()

    base, threads = WORK / options.preset, max((os.cpu_count() or 1) // options.jobs, 1)
    write_params(base, options.preset, {})
    run_stages(base, DATA_STAGES, os.cpu_count() or 1)
    runs = [(variant, seed) for seed, variant in product(options.seeds, options.variants)]
    rows = []
    with progress("ablations", len(runs), unit="runs") as bar, ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda run: run_variant(options.preset, *run, threads), runs):
            rows.append(row)
            bar.advance(1)
    rows.sort(key=lambda row: (list(VARIANTS).index(row["variant"]), row["seed"]))
    if set(options.variants) == set(VARIANTS) and len(options.seeds) > 1:
        write_json(RESULTS, {"preset": options.preset, "runs": rows, **environment("cpu")})
    print(table(rows, options.columns))


if __name__ == "__main__":
    main()
