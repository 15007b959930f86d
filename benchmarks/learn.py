"""Trains and evaluates a preset in a folder of its own, from nothing, without DVC.

    python benchmarks/learn.py --folder .scratch/learn --preset toy_gpu --prepare
    python benchmarks/learn.py --folder .scratch/learn --preset toy_gpu --kimg 60

`--prepare` runs the stages before `train`, which need no GPU. Curves and samples are then in FOLDER/results/training,
the distances of images and depth (`swd`, `depth_swd`) in FOLDER/results/metrics.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

from threedgp.commands.preset import overridden, preset_values
from threedgp.config import parse_config
from threedgp.runtime.atomic import write_bytes

ROOT = Path(__file__).resolve().parent.parent
DATA_STAGES = ("download", "prepare", "features", "select", "depth", "embed", "shards")


def run_stages(folder: Path, stages: tuple[str, ...], threads: int) -> None:
    """Run stages in `folder`, their output to ``log.txt``; ends the program where one fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
    for stage in stages:
        with (folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", f"stages.{stage}"]
            code = subprocess.run(command, cwd=folder, env=environ, stdout=log, stderr=log).returncode
        if code:
            raise SystemExit(f"{folder.name}: stage {stage} ended with code {code}; see {folder / 'log.txt'}")


def main() -> None:
    """Prepare the data, or train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--preset", default="toy_gpu")
    parser.add_argument("--images", type=int, default=8192, help="of the data set")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--kimg", type=float, default=60.0, help="thousands of images to train for")
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    kimg = options.kimg
    overrides = {"download.count": options.images, "train.kimg": kimg, "train.precision": options.precision}
    overrides |= {"train.metric_kimg": kimg, "train.pictures_kimg": kimg / 4, "train.save_kimg": kimg}
    threads = len(os.sched_getaffinity(0))
    overrides |= {"train.tick_kimg": kimg / 50, "evaluate.metrics": ["swd", "depth_swd"], "machine.workers": threads}
    values = overridden(preset_values(options.preset, ROOT / "presets"), overrides)
    parse_config(values)
    write_bytes(options.folder / "params.yaml", yaml.safe_dump(values, sort_keys=False).encode())
    run_stages(options.folder, DATA_STAGES if options.prepare else ("train", "evaluate"), threads)


if __name__ == "__main__":
    main()
