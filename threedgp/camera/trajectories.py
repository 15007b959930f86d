"""Camera trajectories for visualization: `[F, 8]` tensors, columns as in `CAMERA_FIELDS`.

A trajectory moves yaw and pitch around a camera and keeps field of view, radius and look-at point. Only `points`
interpolates all parameters, from each given camera to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from threedgp.camera.geometry import LOOK_AT_PITCH, LOOK_AT_RADIUS, LOOK_AT_YAW, PITCH, YAW, spherical_to_cartesian
from threedgp.camera.priors import frontal_cameras, prior_reach
from threedgp.config import CameraConfig

MIN_REACH = 0.2
"""Radians to either side; a narrow or fixed prior would give a still image."""
POLE_MARGIN = 0.1
"""Radians; the pose is undefined for a camera straight above the scene."""


def _reach(config: CameraConfig, angle: str) -> float:
    return max(prior_reach(config, angle), MIN_REACH)


def _path(config: CameraConfig, around: Tensor | None, yaw: Tensor, pitch: Tensor) -> Tensor:
    camera = frontal_cameras(config, 1)[0] if around is None else around.detach().to("cpu", torch.float32)
    path = camera.repeat(len(yaw), 1)
    path[:, YAW] += yaw
    path[:, PITCH] = (path[:, PITCH] + pitch).clamp(POLE_MARGIN, math.pi - POLE_MARGIN)
    return path


def _turn(frames: int) -> Tensor:
    """Angles of a closed path, without its end, which equals the start."""
    return torch.arange(frames) * (2 * math.pi / frames)


def line(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """From left to right through 80 % of the prior's yaw, both ends included; one frame stands in the middle.

    `around` is the camera `[8]` in the middle; None = the middle of the prior, looking at the origin.
    """
    reach = 0.8 * _reach(config, "yaw")
    # Yaw grows to the left of the scene: the path starts with the largest.
    yaw = torch.linspace(reach, -reach, frames) if frames > 1 else torch.zeros(1)
    return _path(config, around, yaw, torch.zeros(frames))


def orbit(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """Once around the scene, closed."""
    return _path(config, around, _turn(frames), torch.zeros(frames))


def front_circle(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """A closed ring in front of the scene, as wide as half of the prior's yaw and as high as a quarter of its pitch: a
    low camera would look through the ground of many scenes."""
    turn = _turn(frames)
    yaw = 0.5 * _reach(config, "yaw") * torch.sin(turn)
    pitch = 0.25 * _reach(config, "pitch") * torch.cos(turn)
    return _path(config, around, yaw, pitch)


def front_disk(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """Cameras spread evenly over the area that `front_circle` encloses, along a spiral (Vogel 1979); the first is the
    given camera."""
    index = torch.arange(frames)
    radius = torch.sqrt(index / max(frames - 1, 1))
    turn = index * (math.pi * (3 - math.sqrt(5)))
    yaw = 0.5 * _reach(config, "yaw") * radius * torch.sin(turn)
    pitch = 0.25 * _reach(config, "pitch") * radius * torch.cos(turn)
    return _path(config, around, yaw, pitch)


def wiggle(config: CameraConfig, frames: int, around: Tensor | None = None) -> Tensor:
    """A horizontal figure eight, closed, that starts at the given camera; as wide as half of the prior's yaw."""
    turn = _turn(frames)
    yaw = 0.5 * _reach(config, "yaw") * torch.sin(turn)
    pitch = 0.125 * _reach(config, "pitch") * torch.sin(2 * turn)
    return _path(config, around, yaw, pitch)


PATHS: dict[str, Callable[[CameraConfig, int, Tensor | None], Tensor]] = {
    "front_circle": front_circle,
    "line": line,
    "wiggle": wiggle,
    "orbit": orbit,
}
"""Trajectories by their names in settings and on the command line; all but `line` are closed."""


def points(cameras: Tensor, frames: int, *, closed: bool = False) -> Tensor:
    """A smooth path `[F, 8]` of F = `frames` cameras through given ones `[K, 8]`, with equal durations between
    neighbors.

    Every parameter is interpolated by monotone cubics (Fritsch and Butland 1984), which do not overshoot; the look-at
    point is interpolated in Cartesian coordinates. Angles are not wrapped: from yaw 0 to 6.28 is one turn. A closed
    path goes back to the first camera, which would be the frame after the last; otherwise both ends are included.
    """
    given = cameras.detach().to("cpu", torch.float64)
    if closed:
        given = torch.cat([given, given[:1]])
    if len(given) == 1:
        return given.to(torch.float32).repeat(frames, 1)
    targets = spherical_to_cartesian(given[:, LOOK_AT_YAW], given[:, LOOK_AT_PITCH], given[:, LOOK_AT_RADIUS])
    values = torch.cat([given, targets], dim=1).numpy()
    times = np.linspace(0, len(given) - 1, frames, endpoint=not closed)
    path = torch.from_numpy(PchipInterpolator(np.arange(len(given)), values)(times))
    x, y, z = path[:, -3:].unbind(1)
    radius = path[:, -3:].norm(dim=1)
    path[:, LOOK_AT_RADIUS] = radius
    path[:, LOOK_AT_YAW] = torch.atan2(-x, z)
    path[:, LOOK_AT_PITCH] = torch.arccos((y / radius.clamp(min=1e-12)).clamp(-1, 1))
    return path[:, : given.shape[1]].to(torch.float32)
