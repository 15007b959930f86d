"""Agreement of two views of a generated scene: one is reprojected into the other through rendered depth.

Every pixel of the first view is a point in space, at which the second view looks. Where the second view sees something
nearer, the point is occluded and left out. Where it sees something farther, the point is missing there: an error that
counts in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import axis_cosines, is_inside, project, rays, sample_images
from threedgp.metrics._declaration import UNTRAINED, Metric, Value

OCCLUSION = 0.02
"""A point is occluded if the second view sees something nearer by more than this fraction of its distance."""


class ViewAgreement(NamedTuple):
    """Means over the compared pixels of each scene, `[B]`; NaN where there are none."""

    color_error: Tensor
    """Mean absolute difference of colors, in the unit of the images."""
    depth_error: Tensor
    """Mean absolute difference of distances along the second view's optical axis, in scene units."""
    compared: Tensor
    """Fraction of the first view's pixels that fall into the second view and are not occluded there."""


def view_agreement(
    first_rgb: Tensor,
    first_depth: Tensor,
    first_cameras: Tensor,
    second_rgb: Tensor,
    second_depth: Tensor,
    second_cameras: Tensor,
) -> ViewAgreement:
    """Compare two views of each scene: colors `[B, 3, R, R]`, depth along the ray `[B, 1, R, R]`, cameras `[B, 8]`.

    The second view is interpolated: colors bilinearly, depth bilinearly in 1 / z, which is exact on planes.
    """
    resolution = first_rgb.shape[-1]
    origins, directions = rays(first_cameras, resolution)
    points = origins + directions * first_depth.flatten(1)[..., None]
    positions, along = project(points, second_cameras)
    inside = (along > 0) & is_inside(positions)
    axis = second_depth * axis_cosines(second_cameras, resolution).view_as(second_depth)

    color, nearness = (sample_images(images, positions[:, :, None])[..., 0] for images in (second_rgb, 1 / axis))
    seen = 1 / nearness[:, 0]
    compared = inside & (seen > along * (1 - OCCLUSION))
    color_error = (first_rgb.flatten(2) - color).abs().mean(dim=1)
    return ViewAgreement(
        _mean(color_error, compared), _mean((seen - along).abs(), compared), compared.to(first_rgb.dtype).mean(dim=1)
    )


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked pixels `[B, N]` of each scene."""
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1)


def measure(view_pairs: Iterable[tuple[Tensor, ...]], depth_range: tuple[float, float]) -> ViewAgreement:
    """Means over scenes: color error in levels of 255, depth error as a fraction of the rays, compared fraction. Pairs
    are the arguments of `view_agreement`, with colors in [-1, 1]; the depth range is that of the rays."""
    near, far = depth_range
    scenes = [torch.stack(view_agreement(*pair)).double().cpu().numpy() for pair in view_pairs]
    color, depth, compared = (row[~np.isnan(row)] for row in np.concatenate(scenes, axis=1))
    means = [float(values.mean()) if len(values) else np.nan for values in (color, depth, compared)]
    return ViewAgreement(means[0] * 127.5, means[1] / (far - near), means[2])


METRIC = Metric(
    measure,
    Value(
        "view_color_error",
        "Color difference of two views",
        "Two views of a scene, 0.2 radians apart, one reprojected into the other through rendered depth; occluded "
        "points are left out. A flat scene agrees with itself: read it beside the depth metrics.",
        column=160,
        unit="levels of 255",
    ),
    Value(
        "view_depth_error",
        "Depth difference of two views",
        "The same for depth, as a fraction of the length of rays.",
        column=161,
    ),
    Value(
        "view_judged", "Pixels that both views see", "Fraction of pixels on which two views are compared.", better=None
    ),
    controls=(UNTRAINED,),
)
