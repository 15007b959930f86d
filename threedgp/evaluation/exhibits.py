"""Files of ``results/evaluation`` for plots and the report: what the numbers were computed from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from threedgp.camera.geometry import PRIOR_FIELDS
from threedgp.data.images import encode_image
from threedgp.evaluation.streams import Stream
from threedgp.runtime.atomic import atomic_path, write_bytes, write_json

MAX_CAMERAS = 2048
SIGNIFICANT_DIGITS = 6
STRIP_LENGTH = 8
"""Images of each set in a strip."""


def write_exhibit(file: Path, content: Any) -> None:
    """Write a file of a metric, see `threedgp.metrics._declaration.Measured`."""
    if file.suffix == ".png":
        write_bytes(file, encode_image(np.ascontiguousarray(content), "png"))
    elif file.suffix == ".tsv":
        write_table(file, content)
    else:
        write_json(file, rounded(content))


def rounded(value: Any) -> Any:
    """Floats in nested dictionaries to 6 significant digits; further ones would differ between machines."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


def write_table(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows of tab-separated text, of which the first is the header."""
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)


def write_cameras(file: Path, cameras: Mapping[str, np.ndarray]) -> None:
    """Write values for histograms, a row per camera; `cameras` holds `[N, 8]` for each of learned, prior and true."""
    rows = [
        [name, *(f"{camera[column]:.6g}" for column in PRIOR_FIELDS.values())]
        for name, values in cameras.items()
        for camera in values[:MAX_CAMERAS]
    ]
    write_table(file, [["set", *PRIOR_FIELDS], *rows])


def write_strips(folder: Path, sets: Mapping[str, Stream]) -> None:
    """Write some images of every set, side by side, as <set>.png: not the first ones, which may all be of one class."""
    for name, images in sets.items():
        strip = np.concatenate(images.spread(STRIP_LENGTH), axis=-1).transpose(1, 2, 0)
        write_bytes(folder / f"{name}.png", encode_image(np.ascontiguousarray(strip), "png"))


def training_cost(curves: Path) -> dict[str, float]:
    """Cost of the training from ``curves.jsonl``: images_per_second, and gpu_days where a known number of GPUs was
    used. Empty if the file is missing or damaged."""
    try:
        records = [json.loads(line) for line in curves.read_text(encoding="utf-8").splitlines()]
        before, seconds, gpu_seconds = 0.0, 0.0, 0.0
        for record in records:
            passed = (record["kimg"] - before) * 1000 / record["images_per_second"]
            before, seconds = record["kimg"], seconds + passed
            gpu_seconds += passed * record.get("gpus", 0)
        values = {"images_per_second": before * 1000 / seconds}
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    if gpu_seconds and all("gpus" in record for record in records):
        values["gpu_days"] = gpu_seconds / 86400
    return values
