"""Contraction of space into a ball, so that bounded planes cover unbounded scenes (Barron et al. 2022, equation 10).

Points `[..., 3]` are in units of the cube's half-width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.render.arguments import expect_points


def contract(points: Tensor) -> Tensor:
    """x where |x| <= 1, else (2 - 1/|x|) x/|x|: all of space into the open ball of radius 2."""
    expect_points(points)
    norm = points.square().sum(-1, keepdim=True)
    norm = torch.where(norm > 1, norm, 1).sqrt()  # clamped first: the square root has no gradient at the origin
    return points * (2 - 1 / norm) / norm


def uncontract(points: Tensor) -> Tensor:
    """The inverse of `contract`: y where |y| <= 1, else y/|y| / (2 - |y|).

    Radius 2 stands for infinity: on and beyond it the result is infinite, or NaN where a coordinate is zero. Use it to
    map what was found on a grid of contracted space, such as the vertices of a mesh, back to the scene.
    """
    expect_points(points)
    norm = points.square().sum(-1, keepdim=True)
    norm = torch.where(norm > 1, norm, 1).sqrt()
    return points / (norm * (2 - norm).clamp(min=0))
