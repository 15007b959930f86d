"""Small files for plots and for the report: what the numbers were computed from."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from threedgp.data.images import encode_image
from threedgp.evaluation.contests import CONTROLS, MODEL, UNTRAINED, Contest
from threedgp.metrics.camera_emd import COMPARED
from threedgp.metrics.class_diversity import ClassScore
from threedgp.runtime.atomic import atomic_path, write_bytes, write_json

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
    rows = []
    for base in [name for name in metrics if f"{name}_{UNTRAINED}" in metrics]:
        sets = {MODEL: base, **{control: f"{base}_{control}" for control in CONTROLS}}
        rows += [{"metric": base, "set": one, "value": metrics[key]} for one, key in sets.items() if key in metrics]
    write_json(file, rows)


def write_classes(file: Path, scores: Sequence[ClassScore], names: Sequence[str]) -> None:
    """Recall and diversity of every class that was judged as tab-separated text, the least diverse first."""
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["class", "pictures", "recall", "diversity"])
        for one in sorted(scores, key=lambda score: score.diversity):
            table.writerow([names[one.label], one.pictures, f"{one.recall:.6g}", f"{one.diversity:.6g}"])


def write_neighbors(file: Path, made: np.ndarray, found: np.ndarray) -> None:
    """A row for each generated picture, which stands at the left, and its nearest training pictures.

    Args:
        file: a PNG.
        made: uint8 `[N, 3, R, R]`.
        found: uint8 `[N, k, 3, R, R]`.
    """
    rows = [np.concatenate([one, *others], axis=-1) for one, others in zip(made, found, strict=True)]
    sheet = np.concatenate(rows, axis=-2).transpose(1, 2, 0)
    write_bytes(file, encode_image(np.ascontiguousarray(sheet), "png"))


def write_strips(folder: Path, contest: Contest) -> None:
    """The first pictures of every set, side by side, as <set>.png."""
    for name, pictures in {"real": contest.reference, **contest.contestants}.items():
        strip = np.concatenate(pictures.head(STRIP), axis=-1).transpose(1, 2, 0)
        write_bytes(folder / f"{name}.png", encode_image(np.ascontiguousarray(strip), "png"))
