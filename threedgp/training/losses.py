"""Losses of generator and discriminator, and the regularizers of the camera generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import FOV, LOOK_AT_PITCH, LOOK_AT_RADIUS, LOOK_AT_YAW, PITCH, ROLL, YAW
from threedgp.config.train import CameraRegularizerConfig


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator, `[B]` to a scalar."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of the discriminator, `[B]` each to a scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_patches: Tensor, gamma: float) -> Tensor:
    """gamma / 2 times the mean squared norm of the gradient on real patches (Mescheder et al. 2018).

    Args:
        real_logits: `[B]`, computed from `real_patches`.
        real_patches: `[B, 4, P, P]`, requires gradients.
        gamma: weight.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_patches, create_graph=True)
    return gamma / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()


def distillation_loss(
    predicted: Tensor, stored: Tensor, scales: Tensor, mean_scale: Tensor, kind: Literal["l2", "kl"]
) -> Tensor:
    """Distance between predicted and stored classifier features of real patches (3DGP, section 3.4).

    Args:
        predicted, stored: `[B, E]`.
        scales: side of each patch, `[B]`; a sample counts as its scale over the batch's mean, since a small patch
            tells little about the whole image whose features are stored.
        mean_scale: mean over the whole batch, of which B may be a part.
        kind: `l2` norm of the difference, or `kl` divergence of softmax(stored) from softmax(predicted).
    """
    if kind == "l2":
        distance = (predicted - stored).norm(dim=1)
    else:
        log_predicted, log_stored = predicted.log_softmax(dim=1), stored.log_softmax(dim=1)
        distance = (log_stored.exp() * (log_stored - log_predicted)).sum(dim=1)
    return (distance * scales / mean_scale).mean()


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
