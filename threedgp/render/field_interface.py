"""What the engines of the field take and hand back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from threedgp.render.field_reference import Decoder


class FieldInputs(NamedTuple):
    """All that the field is evaluated with but distances; tensors and units as in `field_along_rays`."""

    planes: Tensor
    decoder: Decoder
    origins: Tensor
    directions: Tensor
    half_width: float
    contraction: bool


class Needs(NamedTuple):
    """Which gradients are asked for."""

    planes: bool
    decoder: bool
    rays: bool


class FieldGradients(NamedTuple):
    """Gradients of the field; None where not asked for."""

    planes: Tensor | None
    decoder: Decoder | None
    origins: Tensor | None
    directions: Tensor | None
