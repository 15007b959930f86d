"""Camera paths for people who look at a scene: `[F, 8]` tensors, columns as in `CAMERA_FIELDS`.

A path moves yaw and pitch around a camera and keeps the rest of it: field of view, radius and look-at point.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from threedgp.camera.geometry import PITCH, YAW
from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig

LEAST_REACH = 0.2
"""Radians to either side; a prior that is narrower, or fixed, would show a still picture."""
POLE_MARGIN = 0.1
"""Radians; straight above the scene, left and right are not defined."""


def _reach(config: CameraConfig, angle: str) -> float:
    """How far cameras of the prior lie from its middle: the bounds, or two deviations of a normal prior."""
    low, high = getattr(config, angle)
    reach = (high - low) / 2
    if config.prior in ("normal", "truncated_normal"):
        reach = min(reach, 2 * getattr(config, f"{angle}_std"))
    return max(0.0 if config.prior == "fixed" else reach, LEAST_REACH)


def _path(config: CameraConfig, around: Tensor | None, yaw: Tensor, pitch: Tensor) -> Tensor:
    camera = frontal_cameras(config, 1)[0] if around is None else around.detach().to("cpu", torch.float32)
    path = camera.repeat(len(yaw), 1)
    path[:, YAW] += yaw
    path[:, PITCH] = (path[:, PITCH] + pitch).clamp(POLE_MARGIN, math.pi - POLE_MARGIN)
    return path


def arc(config: CameraConfig, frames: int, around: Tensor | None = None, share: float = 0.8) -> Tensor:
    """From left to right through `share` of the prior's yaw, both ends included; one frame stands in the middle.

    `around` is the camera `[8]` in the middle; None = the middle of the prior, looking at the origin.
    """
    reach = share * _reach(config, "yaw")
    # Yaw grows to the left of the scene: the path starts with the largest.
    yaw = torch.linspace(reach, -reach, frames) if frames > 1 else torch.zeros(1)
    return _path(config, around, yaw, torch.zeros(frames))


def orbit(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """Once around the scene; the frame after the last would be the first."""
    yaw = torch.arange(frames) * (2 * math.pi / frames)
    return _path(config, around, yaw, torch.zeros(frames))


def wiggle(config: CameraConfig, frames: int, around: Tensor | None = None, share: float = 0.5) -> Tensor:
    """An ellipse of yaw and pitch around a camera, `share` of the prior wide; the frame after the last would be the
    first."""
    turn = torch.arange(frames) * (2 * math.pi / frames)
    # A low camera would look through the ground of many scenes, so that pitch moves half as much.
    yaw = share * _reach(config, "yaw") * torch.sin(turn)
    pitch = share / 2 * _reach(config, "pitch") * torch.cos(turn)
    return _path(config, around, yaw, pitch)
