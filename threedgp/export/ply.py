"""Points and 3D Gaussians as binary PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from threedgp.export.surface import SurfaceSamples
from threedgp.runtime.atomic import write_bytes

SH_CONSTANT = 0.28209479177387814
"""The spherical harmonic of degree 0, 1 / (2 sqrt(pi))."""
OPACITY = 0.95
SPREAD = 0.6
"""Standard deviation of a Gaussian along the surface, as a fraction of the distance between samples."""
FLATNESS = 0.1
"""Standard deviation along the normal, relative to that along the surface."""
_TYPES = {"f4": "float", "u1": "uchar"}


def write_points(target: Path, samples: SurfaceSamples) -> None:
    """Write a point cloud with normals and sRGB colors, atomically."""
    names = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue")
    _write(target, dict(zip(names, (*samples.points.T, *samples.normals.T, *samples.colors.T), strict=True)))


def write_gaussians(target: Path, samples: SurfaceSamples) -> None:
    """Write one Gaussian per sample in the layout of 3D Gaussian Splatting (Kerbl et al. 2023), atomically.

    Colors are spherical harmonics of degree 0, opacities logits, scales logarithms, rotations quaternions (w, x, y, z)
    from the axes of the Gaussian to those of the scene. A Gaussian is a disk in the surface, as wide as the pixel that
    it comes from; on an oblique surface wider.
    """
    along = SPREAD * samples.spacing / np.sqrt(samples.cosines)
    scales = np.log(np.stack([along, along, FLATNESS * along], axis=1))
    harmonics = (samples.colors / 255 - 0.5) / SH_CONSTANT
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    opacity = np.full((len(scales), 1), np.log(OPACITY / (1 - OPACITY)))
    table = np.concatenate(
        [samples.points, samples.normals, harmonics, opacity, scales, _rotations_to(samples.normals)], axis=1
    )
    _write(target, dict(zip(names, table.T, strict=True)))


def _rotations_to(normals: np.ndarray) -> np.ndarray:
    """Unit quaternions (w, x, y, z) `[N, 4]` that turn +z to the normals `[N, 3]`."""
    x, y, z = normals.T
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    quaternions[z < -1 + 1e-6] = (0, 1, 0, 0)  # half a turn; its axis may be any in the plane
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def _write(target: Path, columns: dict[str, np.ndarray]) -> None:
    """Write vertices with the given properties by name: uint8 ones as bytes, all others as float32."""
    kinds = {name: "u1" if values.dtype == np.uint8 else "f4" for name, values in columns.items()}
    table = np.empty(len(columns["x"]), [(name, f"<{kind}") for name, kind in kinds.items()])
    for name, values in columns.items():
        table[name] = values
    header = ["ply", "format binary_little_endian 1.0", "comment threedgp", f"element vertex {len(table)}"]
    header += [f"property {_TYPES[kind]} {name}" for name, kind in kinds.items()]
    write_bytes(target, "\n".join([*header, "end_header", ""]).encode() + table.tobytes())
