"""A strict reader of PLY files, and a renderer of 3D Gaussians written after the formulas of the paper (Kerbl et al.
2023, section 4; Zwicker et al. 2001), to check files against images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

KINDS = {"float": "<f4", "uchar": "u1"}


def read_ply(file: Path) -> np.ndarray:
    """The vertices of a binary PLY file, as a structured array."""
    data = file.read_bytes()
    header, _, body = data.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    columns = [line.split()[1:] for line in lines if line.startswith("property ")]
    dtype = np.dtype([(name, KINDS[kind]) for kind, name in columns])
    assert len(body) == count * dtype.itemsize, "as many bytes as the header announces"
    return np.frombuffer(body, dtype)


def stacked(vertices: np.ndarray, *names: str) -> np.ndarray:
    return np.stack([vertices[name] for name in names], axis=1).astype(np.float64)


def splat(vertices: np.ndarray, world2cam: np.ndarray, focal: float, size: int) -> np.ndarray:
    """Image `[size, size, 3]` in [0, 255] of Gaussians; `world2cam` `[4, 4]` leads to axes right, down, forward."""
    points = stacked(vertices, "x", "y", "z") @ world2cam[:3, :3].T + world2cam[:3, 3]
    colors = 0.5 + 0.28209479177387814 * stacked(vertices, "f_dc_0", "f_dc_1", "f_dc_2")
    opacity = 1 / (1 + np.exp(-vertices["opacity"].astype(np.float64)))
    scales = np.exp(stacked(vertices, "scale_0", "scale_1", "scale_2"))
    turned = Rotation.from_quat(stacked(vertices, "rot_1", "rot_2", "rot_3", "rot_0")).as_matrix() * scales[:, None]
    axes = world2cam[:3, :3] @ turned
    x, y, z = points.T
    zero = np.zeros_like(z)
    jacobian = focal * np.stack([np.stack([1 / z, zero, -x / z**2], 1), np.stack([zero, 1 / z, -y / z**2], 1)], 1)
    half = jacobian @ axes
    covariance = half @ half.transpose(0, 2, 1) + 0.05 * np.eye(2)
    inverse = np.linalg.inv(covariance)
    u, v = focal * x / z + size / 2, focal * y / z + size / 2
    reach = np.ceil(3 * np.sqrt(covariance[:, [0, 1], [0, 1]].max(axis=1))).astype(int)
    image, light = np.zeros((size, size, 3)), np.ones((size, size))
    for i in np.argsort(z):
        left, top = max(math.floor(u[i] - reach[i]), 0), max(math.floor(v[i] - reach[i]), 0)
        columns = np.arange(left, min(math.ceil(u[i] + reach[i]), size))
        rows = np.arange(top, min(math.ceil(v[i] + reach[i]), size))
        if z[i] <= 0 or not len(columns) or not len(rows):
            continue
        dx, dy = columns + 0.5 - u[i], rows[:, None] + 0.5 - v[i]
        power = inverse[i, 0, 0] * dx**2 + 2 * inverse[i, 0, 1] * dx * dy + inverse[i, 1, 1] * dy**2
        alpha = opacity[i] * np.exp(-power / 2)
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        image[part] += (light[part] * alpha)[..., None] * colors[i]
        light[part] *= 1 - alpha
    return image.clip(0, 1) * 255
