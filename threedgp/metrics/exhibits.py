"""Small files for plots and for the report: what the numbers were computed from."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from threedgp.atomic import atomic_path, write_bytes, write_json
from threedgp.data.images import encode_image
from threedgp.metrics.camera_emd import COMPARED
from threedgp.metrics.evaluation import MODEL, Contest

MOST_CAMERAS = 2048
STRIP = 8
"""Pictures of each set."""


def write_cameras(file: Path, cameras: dict[str, np.ndarray]) -> None:
    """Values for histograms as tab-separated text, a row a camera.

    `cameras` holds `[N, 8]` for each of learned, prior and (where it is known) true.
    """
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["set", *COMPARED])
        for name, values in cameras.items():
            for camera in values[:MOST_CAMERAS]:
                table.writerow([name, *(f"{camera[column]:.6g}" for column in COMPARED.values())])


def write_machine(file: Path, device: torch.device) -> None:
    """Where the numbers were computed."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"
    write_json(file, {"device": name, "torch": torch.__version__})


def write_controls(file: Path, metrics: dict[str, Any]) -> None:
    """Every metric that has controls as rows of metric, set and value, which DVC can plot as bars."""
    bases = [name for name in metrics if f"{name}_untrained" in metrics]
    rows = []
    for base in bases:
        rows.append({"metric": base, "set": MODEL, "value": metrics[base]})
        for name, value in metrics.items():
            control = name.removeprefix(f"{base}_")
            if control != name and isinstance(value, float):
                rows.append({"metric": base, "set": control, "value": value})
    write_json(file, rows)


def write_strips(folder: Path, contest: Contest) -> None:
    """The first pictures of every set, side by side, as <set>.png."""
    for name, pictures in {"real": contest.reference, **contest.contestants}.items():
        strip = np.concatenate(pictures.head(STRIP), axis=-1).transpose(1, 2, 0)
        write_bytes(folder / f"{name}.png", encode_image(np.ascontiguousarray(strip), "png"))
