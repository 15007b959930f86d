"""Losses of the two players."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


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
