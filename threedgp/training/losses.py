"""Losses of generator and discriminator, and the regularizers of the camera generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import (
    CAMERA_FIELDS,
    FOV,
    LOOK_AT_PITCH,
    LOOK_AT_RADIUS,
    LOOK_AT_YAW,
    PITCH,
    RADIUS,
    ROLL,
    YAW,
)
from threedgp.camera.priors import prior_mean_angles
from threedgp.config.train import CameraRegularizerConfig
from threedgp.models.generator import Generator
from threedgp.models.sampler import Scenes


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
        scales: side of each patch, `[B]`; weights the samples, since a small patch shows little of the image whose
            features are stored.
        mean_scale: mean scale of the whole batch, of which the B samples may be a part.
        kind: `l2` norm of the difference, or `kl` divergence of softmax(stored) from softmax(predicted).
    """
    if kind == "l2":
        distance = (predicted - stored).norm(dim=1)
    else:
        log_predicted, log_stored = predicted.log_softmax(dim=1), stored.log_softmax(dim=1)
        distance = (log_stored.exp() * (log_stored - log_predicted)).sum(dim=1)
    return (distance * scales / mean_scale).mean()


EMD_DRAWS = 64
"""Cameras that enter the regularizer of the posterior."""
MEAN_DRAWS = 256
"""Cameras that enter the mean of the posterior's angles."""


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


def camera_loss(
    generator: Generator, scenes: Scenes, config: CameraRegularizerConfig, ramp: float
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Regularization of the camera generator (3DGP, section 3.3).

    Args:
        scenes: `MEAN_DRAWS` scenes; the first `EMD_DRAWS` enter the regularizer, all of them the mean angles.
        config: kind and weights.
        ramp: factor of the regularizer `emd`.

    Returns:
        loss, scalars for the log, and the detached posterior cameras `[MEAN_DRAWS, 8]`.
    """
    z, labels, prior = scenes
    posterior = generator.posterior(prior, z, labels)
    distance = mean_angle_distance(posterior, prior_mean_angles(generator.camera_config))
    if config.kind == "emd":
        # The same prior draws on both sides: the exact transport cost between the two sets, without the noise that a
        # second set of draws would add to the gradient.
        regularizer = ramp * emd_regularizer(posterior[:EMD_DRAWS], prior[:EMD_DRAWS], config)
    else:
        z, labels = z[:EMD_DRAWS], None if labels is None else labels[:EMD_DRAWS]
        regularizer = gradient_regularizer(
            lambda cameras: generator.posterior(cameras, z, labels), prior[:EMD_DRAWS], config
        )
    stats = {"camera/regularizer": regularizer.detach(), "camera/mean_angle_distance": distance.detach()}
    cameras = posterior.detach()
    means, deviations = cameras.mean(dim=0), cameras.std(dim=0)
    for index, field in enumerate(CAMERA_FIELDS):
        if index not in (ROLL, RADIUS):  # the camera generator does not change these
            stats[f"camera/{field}_mean"], stats[f"camera/{field}_std"] = means[index], deviations[index]
    return regularizer + config.mean_angle_weight * distance, stats, cameras


def mean_angle_distance(posterior: Tensor, prior_mean: tuple[float, float, float]) -> Tensor:
    """Euclidean distance between the mean (yaw, pitch, roll) of posterior cameras `[N, 8]` and the prior's mean."""
    means = posterior[:, YAW : ROLL + 1].mean(dim=0)
    squares = [(mean - expected).square() for mean, expected in zip(means, prior_mean, strict=True)]
    return torch.sqrt(sum(squares) + 1e-12)  # the derivative of the root is infinite at zero
