"""What becomes of the numbers: those that a researcher compares first, in their order, and all others beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from threedgp.evaluation.feature_metrics import PUBLISHED, metric_name

SIGNIFICANT_DIGITS = 6
FIRST = (
    "kimg",
    "fd",
    "class_score",
    "nfs",
    "images_per_second",
    "gpu_days",
    "swd",
    "depth_swd",
    "camera_emd",
    "kd",
    "precision",
    "recall",
    "class_recall",
    "class_diversity",
    "authenticity",
    "normal_swd",
    "shape_distance",
    "shape_coverage",
    "depth_consistency",
    "view_color_error",
    "view_depth_error",
    "camera_emd_yaw",
    "camera_emd_pitch",
    "camera_emd_fov",
    "camera_emd_look_at_radius",
    "samples",
)
"""Columns of `dvc exp show`, from the left; metrics on features as in `PUBLISHED`, whatever they are called."""


def split(values: Mapping[str, Any], networks: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of `FIRST`, and the rest: controls, deviations, shares.

    Args:
        values: all numbers by name.
        networks: of the Frechet distance and of precision and recall.
    """
    names = [name for metric in FIRST for name in _names(metric, networks)]
    head = {name: values[name] for name in names if name in values}
    return rounded(head), rounded({name: values[name] for name in sorted(values) if name not in head})


def _names(metric: str, networks: tuple[str, str]) -> list[str]:
    return [metric_name(metric, network) for network in networks] if metric in PUBLISHED else [metric]


def rounded(value: Any) -> Any:
    """Floats in nested dictionaries to 6 significant digits; further ones would differ between machines."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


def training_cost(curves: Path) -> dict[str, float]:
    """What training took, from its curves: images_per_second, and gpu_days where they tell the number of GPUs.

    Args:
        curves: ``curves.jsonl``: lines with kimg, images_per_second and perhaps gpus; none or damaged tells nothing.
    """
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
    if all("gpus" in record for record in records):
        values["gpu_days"] = gpu_seconds / 86400
    return values
