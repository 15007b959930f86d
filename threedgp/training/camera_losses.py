"""Regularizers that keep posterior cameras from collapsing (3DGP, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from threedgp.camera.geometry import FOV, LOOK_AT_PITCH, LOOK_AT_RADIUS, LOOK_AT_YAW, PITCH, ROLL, YAW
from threedgp.config.train import CameraRegularizerConfig

EMD_DRAWS = 64
MEAN_DRAWS = 256


def _weights(config: CameraRegularizerConfig) -> dict[int, float]:
    look_at = config.look_at_weight
    return {
        YAW: config.origin_weight,
        PITCH: config.origin_weight,
        FOV: config.fov_weight,
        LOOK_AT_YAW: look_at,
        LOOK_AT_PITCH: look_at,
        LOOK_AT_RADIUS: look_at,
    }


def transport_cost(a: Tensor, b: Tensor) -> Tensor:
    """Squared-distance optimal transport between equally weighted numbers, sorted against sorted.

    Args:
        a, b: `[N, K]`, K sets of N numbers.

    Returns:
        `[K]`.
    """
    return (a.sort(dim=0).values - b.sort(dim=0).values).square().mean(dim=0)


def emd_regularizer(posterior: Tensor, prior: Tensor, config: CameraRegularizerConfig) -> Tensor:
    """Weighted transport cost between posterior and prior cameras `[N, 8]`, parameter by parameter.

    Field of view in degrees, the rest in radians and scene units.
    """
    costs = transport_cost(posterior, prior)
    return sum(weight * costs[column] for column, weight in _weights(config).items())


def gradient_regularizer(
    posterior_of: Callable[[Tensor], Tensor], prior: Tensor, config: CameraRegularizerConfig
) -> Tensor:
    """|g| + 1 / (|g| + 1e-4) for g, the derivative of each posterior parameter with respect to its prior.

    Args:
        posterior_of: prior cameras `[N, 8]` to posterior ones.
        prior: `[N, 8]`.
        config: weights.
    """
    prior = prior.detach().requires_grad_()
    posterior = posterior_of(prior)
    total = prior.new_zeros([])
    for index, weight in _weights(config).items():
        (gradient,) = torch.autograd.grad(posterior[:, index].sum(), prior, create_graph=True)
        size = gradient[:, index].abs()
        total = total + weight * (size + 1 / (size + 1e-4)).mean()
    return total


def mean_angle_distance(posterior: Tensor, prior_mean: tuple[float, float, float]) -> Tensor:
    """Euclidean distance between the mean (yaw, pitch, roll) of posterior cameras `[N, 8]` and the prior's mean."""
    means = posterior[:, YAW : ROLL + 1].mean(dim=0)
    squares = [(mean - expected).square() for mean, expected in zip(means, prior_mean, strict=True)]
    return torch.sqrt(sum(squares) + 1e-12)  # the derivative of the root is infinite at zero
