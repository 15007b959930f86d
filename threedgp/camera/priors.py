"""Prior distributions of cameras."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from threedgp.config import CameraConfig
from threedgp.runtime.errors import UserError

LOOK_AT_YAW_BOUNDS = (-math.pi, math.pi)
LOOK_AT_PITCH_BOUNDS = (0.0, math.pi)
PITCH_INSET = 1e-5
"""Radians from the poles, where the camera looks straight up or down and its pose is undefined."""
PRIOR_DRAWS = 6
"""Uniform numbers per camera: yaw, pitch, fov, look-at yaw, pitch and radius."""


def _uniform(u: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return low + (high - low) * u


def _normal(u: Tensor, bounds: tuple[float, float], std: float, truncated: bool) -> Tensor:
    """Normally distributed angle around the middle of `bounds`, by inverse transform sampling."""
    middle = sum(bounds) / 2
    if std == 0:
        return torch.full_like(u, middle)
    if truncated:
        low, high = (0.5 * (1 + math.erf((bound - middle) / std / math.sqrt(2))) for bound in bounds)  # CDF
        u = _uniform(u, (low, high))
    u = u.clamp(2.0**-25, 1 - 2.0**-24)  # erfinv is infinite at the ends
    return middle + std * math.sqrt(2) * torch.erfinv(2 * u - 1)


def _from_quantiles(u: Tensor, quantiles: Tensor) -> Tensor:
    """Numbers `[B]` whose distributions have the equally spaced quantiles `[B, Q]` and are uniform between them."""
    position = u * (quantiles.shape[1] - 1)
    below = position.long().clamp(max=quantiles.shape[1] - 2)[:, None]
    low, high = quantiles.gather(1, below).squeeze(1), quantiles.gather(1, below + 1).squeeze(1)
    return low + (high - low) * (position - below.squeeze(1))


def prior_cameras(config: CameraConfig, u: Tensor, fov_quantiles: Tensor | None = None) -> Tensor:
    """Cameras `[B, 8]` drawn from the prior (3DGP, section 3.3) by uniform numbers `[B, 6]` in [0, 1).

    `uniform`: every parameter uniform within its bounds. `normal` and `truncated_normal`: yaw and pitch normal around
    the middle of their bounds, truncated to them in the latter case. `fixed`: always the frontal camera. `estimated`:
    as `uniform`, but the field of view follows `fov_quantiles`, equally spaced quantiles `[B, Q]` in degrees, clamped
    to its bounds. The direction of the look-at point is uniform on the sphere.

    Raises:
        UserError: the prior is `estimated`, and there are no quantiles.
    """
    if config.prior == "fixed":
        return frontal_cameras(config, u.shape[0], dtype=u.dtype, device=u.device)
    u_yaw, u_pitch, u_fov, u_look_at_yaw, u_look_at_pitch, u_look_at_radius = u.unbind(-1)
    if config.prior in ("uniform", "estimated"):
        yaw, pitch = _uniform(u_yaw, config.yaw), _uniform(u_pitch, config.pitch)
    else:
        truncated = config.prior == "truncated_normal"
        yaw = _normal(u_yaw, config.yaw, config.yaw_std, truncated)
        pitch = _normal(u_pitch, config.pitch, config.pitch_std, truncated).clamp(PITCH_INSET, math.pi - PITCH_INSET)
    fov = _uniform(u_fov, config.fov)
    if config.prior == "estimated":
        if fov_quantiles is None:
            raise UserError(
                "camera.prior: 'estimated' needs the fields of view of training images, which only a model that was "
                "trained on them has; choose 'uniform'."
            )
        fov = _from_quantiles(u_fov, fov_quantiles).clamp(*config.fov)
    return torch.stack(
        [
            yaw,
            pitch,
            torch.zeros_like(yaw),
            fov,
            torch.full_like(yaw, config.radius),
            _uniform(u_look_at_yaw, LOOK_AT_YAW_BOUNDS),
            torch.arccos(1 - 2 * u_look_at_pitch),  # uniform on the sphere: the cosine is uniform
            _uniform(u_look_at_radius, config.look_at_radius),
        ],
        dim=-1,
    )


def prior_mean_angles(config: CameraConfig) -> tuple[float, float, float]:
    """Mean yaw, pitch and roll of the prior, in radians. Every prior is symmetric within its bounds."""
    return sum(config.yaw) / 2, sum(config.pitch) / 2, 0.0


def prior_reach(config: CameraConfig, angle: str) -> float:
    """Largest distance of `yaw` or `pitch` from its mean, in radians: to the bounds, or two standard deviations of a
    normal prior."""
    if config.prior == "fixed":
        return 0.0
    low, high = getattr(config, angle)
    reach = (high - low) / 2
    if config.prior in ("normal", "truncated_normal"):
        reach = min(reach, 2 * getattr(config, f"{angle}_std"))
    return reach


def frontal_cameras(
    config: CameraConfig, count: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """`count` copies of the camera in the middle of the prior, looking at the origin: `[count, 8]`."""
    row = (*prior_mean_angles(config), sum(config.fov) / 2, config.radius, 0.0, math.pi / 2, 0.0)  # as `CAMERA_FIELDS`
    return torch.tensor([row], dtype=dtype, device=device).repeat(count, 1)
