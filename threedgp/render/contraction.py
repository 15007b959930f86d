"""Contraction of all of space into a ball, so that bounded planes cover unbounded scenes (Mip-NeRF 360, equation 10).

Points are in units of the cube's half-width, their three coordinates along `dim`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.render.arguments import expect_three_coordinates


def contract(points: Tensor, dim: int = -1) -> Tensor:
    """x where |x| <= 1, else (2 - 1/|x|) x/|x|: all of space into the open ball of radius 2.

    Raises:
        ValueError: unless `points` are floating numbers, three along `dim`.
    """
    expect_three_coordinates("points", points, dim)
    norm = points.square().sum(dim, keepdim=True)
    norm = torch.where(norm > 1, norm, 1).sqrt()  # the clamp comes first: the root has no gradient at the origin
    return points * (2 - 1 / norm) / norm


def uncontract(points: Tensor, dim: int = -1) -> Tensor:
    """The inverse of `contract`: y where |y| <= 1, else y/|y| / (2 - |y|).

    Radius 2 stands for infinity: on and beyond it the result is infinite, or NaN where a coordinate is zero. What is
    found on a grid of contracted space, such as the vertices of a mesh, comes back to the scene by this.

    Raises:
        ValueError: unless `points` are floating numbers, three along `dim`.
    """
    expect_three_coordinates("points", points, dim)
    norm = points.square().sum(dim, keepdim=True)
    norm = torch.where(norm > 1, norm, 1).sqrt()
    return points / (norm * (2 - norm).clamp(min=0))


def contract_gradient(points: Tensor, gradient: Tensor, dim: int = -1) -> Tensor:
    """Gradient of `points`, given that of what `contract` made of them: for code that runs below autograd."""
    inverse = points.square().sum(dim, keepdim=True).clamp(min=1).rsqrt()
    # The factor on the position, and its derivative by the radius over the radius (0 inside the unit ball).
    factor = (2 - inverse) * inverse
    slope = torch.where(inverse < 1, 2 * (inverse - 1) * inverse**3, 0.0)
    return factor * gradient + slope * (points * gradient).sum(dim, keepdim=True) * points
