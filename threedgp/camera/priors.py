"""Prior distributions of cameras."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.config import CameraConfig
from threedgp.runtime.constant_tensors import constant

LOOK_AT_YAW_BOUNDS = (-math.pi, math.pi)
LOOK_AT_PITCH_BOUNDS = (0.0, math.pi)
PRIOR_DRAWS = 6
"""Uniform numbers that one camera takes: yaw, pitch, fov, look-at yaw, pitch and radius."""


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def _normal(u: Tensor, bounds: tuple[float, float], std: float, truncated: bool) -> Tensor:
    """Normal angle around the middle of `bounds`, by the inverse of its distribution function."""
    middle = sum(bounds) / 2
    if std == 0:
        return torch.full_like(u, middle)
    if truncated:
        low, high = (_normal_cdf((bound - middle) / std) for bound in bounds)
        u = low + (high - low) * u
    u = u.clamp(2.0**-25, 1 - 2.0**-24)  # a draw of exactly 0 would be infinitely far out
    return middle + std * math.sqrt(2) * torch.erfinv(2 * u - 1)


def prior_cameras(config: CameraConfig, u: Tensor) -> Tensor:
    """Cameras drawn from the prior.

    Args:
        config: names the preset and its bounds. `uniform`: everything uniform in its bounds. `normal` and
            `truncated_normal`: yaw and pitch normal around the middle of their bounds, the latter confined to them.
            `fixed`: the frontal camera, always. The look-at point lies in a direction that is uniform on the sphere.
        u: uniform numbers in [0, 1), `[B, 6]`.

    Returns:
        `[B, 8]`, columns as in `CAMERA_FIELDS`.
    """
    if config.prior == "fixed":
        return frontal_cameras(config, u.shape[0], dtype=u.dtype, device=u.device)
    # The cosine of the look-at pitch is what is uniform, from 1 at the pole above down to -1.
    bounds = (config.yaw, config.pitch, config.fov, LOOK_AT_YAW_BOUNDS, (1.0, -1.0), config.look_at_radius)
    low = constant(tuple(float(low) for low, _ in bounds), u.dtype, u.device)
    span = constant(tuple(float(high - low) for low, high in bounds), u.dtype, u.device)
    yaw, pitch, fov, look_yaw, look_cosine, look_radius = torch.addcmul(low, u, span).unbind(-1)
    if config.prior != "uniform":
        truncated = config.prior == "truncated_normal"
        yaw = _normal(u[:, 0], config.yaw, config.yaw_std, truncated)
        pitch = _normal(u[:, 1], config.pitch, config.pitch_std, truncated).clamp(1e-5, math.pi - 1e-5)
    return torch.stack(
        [
            yaw,
            pitch,
            torch.zeros_like(yaw),
            fov,
            torch.full_like(yaw, config.radius),
            look_yaw,
            torch.arccos(look_cosine),
            look_radius,
        ],
        dim=-1,
    )


def prior_mean_angles(config: CameraConfig) -> tuple[float, float, float]:
    """Mean yaw, pitch and roll of the prior, in radians. Every preset is symmetric in its bounds."""
    return sum(config.yaw) / 2, sum(config.pitch) / 2, 0.0


def frontal_cameras(
    config: CameraConfig, count: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """`count` copies of the camera in the middle of the prior, looking at the origin: `[count, 8]`."""
    yaw, pitch, roll = prior_mean_angles(config)
    values = dict(
        yaw=yaw, pitch=pitch, roll=roll, fov=sum(config.fov) / 2, radius=config.radius,
        look_at_yaw=0.0, look_at_pitch=math.pi / 2, look_at_radius=0.0,
    )  # fmt: skip
    row = torch.tensor([values[name] for name in CAMERA_FIELDS], dtype=dtype, device=device)
    return row.repeat(count, 1)
