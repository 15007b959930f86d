"""Losses of generator and discriminator, and the regularizers of the camera generator."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS, FOV, LEARNED, PITCH, PRIOR_FIELDS, ROLL, YAW
from threedgp.camera.priors import prior_mean_angles
from threedgp.config.train import CameraRegularizerConfig
from threedgp.models.generator import Generator, Scenes

Loss = Literal["logistic", "relativistic"]


def generator_loss(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """Non-saturating loss of the generator, `[B]` to a scalar; relativistic if it gets the logits of the real patches
    that the generated ones are paired with."""
    return F.softplus(-fake_logits if real_logits is None else real_logits - fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: Loss = "logistic") -> Tensor:
    """Loss of the discriminator, from logits `[B]` of real and of generated patches to a scalar.

    `logistic` judges every patch on its own (Goodfellow et al. 2014). `relativistic` judges pairs of a real and a
    generated patch by the difference of their logits (Jolicoeur-Martineau 2018; Huang et al. 2024 (R3GAN), section
    2.1).
    """
    if kind == "relativistic":
        return F.softplus(fake_logits - real_logits).mean()
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def gradient_penalty(logits: Tensor, patches: Tensor, gamma: float) -> Tensor:
    """gamma / 2 times the mean squared norm of the gradient of logits `[B]` with respect to their patches `[B, 4, P,
    P]`.

    On real patches it is R1, on generated ones R2 (Mescheder et al. 2018, section 4.1).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), patches, create_graph=True)
    return gamma / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()


def distillation_loss(
    predicted: Tensor, stored: Tensor, scales: Tensor, mean_scale: Tensor, kind: Literal["l2", "kl"]
) -> Tensor:
    """Distance between predicted and stored classifier features `[B, E]` of real patches (3DGP, section 3.4).

    It is the `l2` norm of the difference, or the `kl` divergence of softmax(stored) from softmax(predicted). The scales
    of the patches `[B]` weight the samples, since a small patch shows little of the image whose features are stored;
    `mean_scale` is that of the whole batch, of which the B samples may be a part.
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
    """Weight of each learned column of a camera."""
    others = {YAW: config.yaw_weight, PITCH: config.pitch_weight, FOV: config.fov_weight}
    return dict.fromkeys(LEARNED, config.look_at_weight) | others


def transport_cost(a: Tensor, b: Tensor) -> Tensor:
    """Squared-distance optimal transport of K sets of N equally weighted numbers, `[N, K]` each to `[K]`: sorted."""
    return (a.sort(dim=0).values - b.sort(dim=0).values).square().mean(dim=0)


def _sorted_by_class(values: Tensor, labels: Tensor) -> Tensor:
    """Values `[N]`, class after class, and sorted within each of them; `labels` int64 `[N]`."""
    order = values.argsort()
    return values.gather(0, order[labels[order].argsort(stable=True)])


def emd_regularizer(
    posterior: Tensor, prior: Tensor, config: CameraRegularizerConfig, labels: Tensor | None = None
) -> Tensor:
    """Weighted transport cost between posterior and prior cameras `[N, 8]`, parameter by parameter.

    Field of view in degrees, the rest in radians and scene units. With `labels` int64 `[N]`, the classes of both sets,
    fields of view are transported within each class, for a prior that depends on the class.
    """
    costs = list(transport_cost(posterior, prior))
    if labels is not None:
        first, second = (_sorted_by_class(cameras[:, FOV], labels) for cameras in (posterior, prior))
        costs[FOV] = (first - second).square().mean()
    return sum(weight * costs[column] for column, weight in _weights(config).items())


def gradient_regularizer(
    posterior_of: Callable[[Tensor], Tensor],
    prior: Tensor,
    config: CameraRegularizerConfig,
    columns: Collection[int] = LEARNED,
) -> Tensor:
    """Weighted sum of |g| + 1 / (|g| + 1e-4) for g, the derivative of each posterior parameter of `columns` with
    respect to its prior `[N, 8]` (3DGP, section 3.3)."""
    prior = prior.detach().requires_grad_()
    posterior = posterior_of(prior)
    weights, total = _weights(config), prior.new_zeros([])
    for index in columns:
        (gradient,) = torch.autograd.grad(posterior[:, index].sum(), prior, create_graph=True)
        size = gradient[:, index].abs()
        total = total + weights[index] * (size + 1 / (size + 1e-4)).mean()
    return total


def camera_loss(
    generator: Generator, scenes: Scenes, config: CameraRegularizerConfig, ramp: float
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Regularization of the camera generator (3DGP, section 3.3); `ramp` is the factor of the regularizer `emd`.

    There are `MEAN_DRAWS` scenes; the first `EMD_DRAWS` enter the regularizer, all of them the mean angles. Returns
    loss, scalars for the log, and the detached posterior cameras `[MEAN_DRAWS, 8]`.
    """
    z, labels, prior = scenes
    posterior = generator.posterior(prior, z, labels)
    distance = mean_angle_distance(posterior, prior_mean_angles(generator.camera_config))
    if config.kind == "emd":
        # The same prior draws on both sides: the exact transport cost between the two sets, without the noise that a
        # second set of draws would add to the gradient.
        classes = None if labels is None or generator.fov_quantiles is None else labels[:EMD_DRAWS]
        regularizer = ramp * emd_regularizer(posterior[:EMD_DRAWS], prior[:EMD_DRAWS], config, classes)
    else:
        z, labels = z[:EMD_DRAWS], None if labels is None else labels[:EMD_DRAWS]
        # A parameter whose minimum is its maximum has the derivative 0, for which the penalty is largest.
        bounds = {column: getattr(generator.camera_config, name) for name, column in PRIOR_FIELDS.items()}
        columns = [column for column in LEARNED if column not in bounds or bounds[column][0] < bounds[column][1]]
        regularizer = gradient_regularizer(
            lambda cameras: generator.posterior(cameras, z, labels), prior[:EMD_DRAWS], config, columns
        )
    stats = {"camera/regularizer": regularizer.detach(), "camera/mean_angle_distance": distance.detach()}
    cameras = posterior.detach()
    means, deviations = cameras.mean(dim=0), cameras.std(dim=0)
    for index in LEARNED:
        name = f"camera/{CAMERA_FIELDS[index]}"
        stats[f"{name}_mean"], stats[f"{name}_std"] = means[index], deviations[index]
    return regularizer + config.mean_angle_weight * distance, stats, cameras


def mean_angle_distance(posterior: Tensor, prior_mean: tuple[float, float, float]) -> Tensor:
    """Euclidean distance between the mean (yaw, pitch, roll) of posterior cameras `[N, 8]` and the prior's mean."""
    means = posterior[:, YAW : ROLL + 1].mean(dim=0)
    squares = [(mean - expected).square() for mean, expected in zip(means, prior_mean, strict=True)]
    return torch.sqrt(sum(squares) + 1e-12)  # the derivative of the root is infinite at zero
