"""Reads cameras from JSON or CSV files, one camera per row.

CSV has a header of column names; JSON is a list of objects, or an object whose key `cameras` holds one::

    yaw,pitch,fov
    0.4,1.5,20
    -0.4,1.5,20

Columns are those of `CAMERA_FIELDS`: radians, but `fov` in degrees; columns that a file lacks have the values of the
frontal camera of the prior.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS, cam2world
from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.runtime.errors import UserError

MAX_CAMERAS = 100_000
MAX_BYTES = 1 << 26


def read_cameras(file: Path, config: CameraConfig) -> Tensor:
    """Cameras of a `.json` or `.csv` file, float32 `[F, 8]`; `config` is the prior, for the columns that the file
    lacks. Raises UserError if the file cannot be read or a camera is invalid; names the row and the column."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file}: this is too large for a list of cameras; name a JSON or CSV file of them.")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: the cameras cannot be read ({error.strerror}); name a JSON or CSV file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: this is not a text file; write cameras as JSON or CSV.") from None
    rows = _json_rows(file, text) if file.suffix.lower() == ".json" else _csv_rows(file, text)
    if not rows:
        raise UserError(f"{file}: it contains no camera; write one per row, such as yaw 0.4, pitch 1.5, fov 20.")
    if len(rows) > MAX_CAMERAS:
        raise UserError(f"{file}: {len(rows):,} cameras are more than {MAX_CAMERAS:,}; split the file.")
    middle = dict(zip(CAMERA_FIELDS, frontal_cameras(config, 1, dtype=torch.float64)[0].tolist(), strict=True))
    cameras = [_camera(row, middle, f"{file}: camera {number}") for number, row in enumerate(rows, start=1)]
    return torch.tensor(cameras, dtype=torch.float32)


def _json_rows(file: Path, text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({error}).") from None
    rows = content.get("cameras") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f'{file}: expected a list of cameras, such as [{{"yaw": 0.4, "pitch": 1.5, "fov": 20}}].')
    return rows


def _csv_rows(file: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    try:
        rows, names = list(reader), reader.fieldnames or []
    except csv.Error as error:
        raise UserError(f"{file}: not valid CSV ({error}).") from None
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{file}: the header names column '{min(repeated)}' twice; remove one of them.")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(f"{file}: camera {number}: expected {len(names)} values, as in the header.")
    return rows


def _camera(row: dict[str, Any], middle: dict[str, float], place: str) -> list[float]:
    unknown = [name for name in row if name not in CAMERA_FIELDS]
    if unknown:
        raise UserError(f"{place}: unknown column '{unknown[0]}'; choose among {', '.join(CAMERA_FIELDS)}.")
    camera = dict(middle)
    for name, value in row.items():
        try:
            camera[name] = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            camera[name] = math.nan
        if not math.isfinite(camera[name]):
            raise UserError(f"{place}: {name} is {value!r}, which is not a finite number.")
    for name, low, high in (("pitch", 0, math.pi), ("fov", 0, 180), ("radius", 0, math.inf)):
        if not low < camera[name] < high:
            unit = " degrees" if name == "fov" else ""
            raise UserError(f"{place}: {name} {camera[name]:g} does not lie between {low} and {high:.4g}{unit}.")
    if camera["look_at_radius"] < 0:
        raise UserError(f"{place}: look_at_radius {camera['look_at_radius']:g} is negative.")
    values = [camera[name] for name in CAMERA_FIELDS]
    pose = cam2world(torch.tensor([values], dtype=torch.float32))[0, :3, :3]
    if not abs(torch.linalg.det(pose).item() - 1) < 1e-3:
        raise UserError(f"{place}: it coincides with its look-at point, or looks straight up or down; move it.")
    return values
