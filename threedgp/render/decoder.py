"""The decoder of the tri-plane field: two layers that turn features into color and raw density."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

LEAKY_SLOPE = 0.2
LEAKY_GAIN = 2**0.5

EMPTY_RAW_DENSITY = -100.0
"""Raw density of empty samples. Its softplus is 4e-44: even over the infinite interval, 1e10, no light is absorbed."""


class Decoder(NamedTuple):
    """Effective weights of the decoder: C features, H hidden units, 4 outputs (rgb and raw density)."""

    weight_1: Tensor
    """`[H, C]`"""
    bias_1: Tensor
    """`[H]`"""
    weight_2: Tensor
    """`[4, H]`"""
    bias_2: Tensor
    """`[4]`"""


def decode(features: Tensor, decoder: Decoder) -> Tensor:
    """Color and raw density `[..., 4]` of features `[..., C]`: linear, leaky ReLU (0.2, gain sqrt 2), linear."""
    hidden = F.leaky_relu(F.linear(features, decoder.weight_1, decoder.bias_1), LEAKY_SLOPE) * LEAKY_GAIN
    return F.linear(hidden, decoder.weight_2, decoder.bias_2)
