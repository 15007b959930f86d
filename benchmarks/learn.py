"""Trains and evaluates a preset in a folder of its own, from nothing, without DVC.

    PYTHONPATH=. python benchmarks/learn.py --folder .scratch/learn --preset toy_gpu --prepare
    PYTHONPATH=. python benchmarks/learn.py --folder .scratch/learn --preset toy_gpu --kimg 60

`--prepare` runs the stages before `train`, which need no GPU. Curves and samples are then in FOLDER/results/training,
the distances of images and depth (`swd`, `depth_swd`) in FOLDER/results/metrics.json.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ablations import DATA_STAGES, run_stages, write_params


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
    overrides |= {"train.tick_kimg": kimg / 50, "evaluate.metrics": ["swd", "depth_swd"]}
    write_params(options.folder, options.preset, overrides)
    threads = len(os.sched_getaffinity(0))
    run_stages(options.folder, DATA_STAGES if options.prepare else ("train", "evaluate"), threads)


if __name__ == "__main__":
    main()
