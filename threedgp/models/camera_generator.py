"""Camera generator: turns prior cameras into the posterior ones that are used (3DGP, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from threedgp.camera.geometry import LOOK_AT_PITCH, PITCH, RADIUS, ROLL
from threedgp.camera.priors import LOOK_AT_PITCH_BOUNDS, LOOK_AT_YAW_BOUNDS
from threedgp.config import CameraConfig
from threedgp.models.layers import EqualizedLinear, normalize_second_moment
from threedgp.models.mapping import LabelEmbedding
from threedgp.runtime.constant_tensors import constant

PITCH_INSET = 1e-5  # the pose is undefined where the camera looks straight up or down


def _bounds(config: CameraConfig) -> list[tuple[float, float]]:
    """Of each column of a camera. Roll and radius, which the prior fixes, are left as they are: 0 to 1."""
    kept = (0.0, 1.0)
    look_at = (LOOK_AT_YAW_BOUNDS, LOOK_AT_PITCH_BOUNDS, config.look_at_radius)
    return [config.yaw, config.pitch, kept, config.fov, kept, *look_at]


class CameraNetwork(nn.Module):
    """Camera parameters, with class and optionally z at hand, to raw outputs."""

    def __init__(self, in_features: int, out_features: int, z_dim: int, num_classes: int, config: CameraConfig) -> None:
        super().__init__()
        lr = config.lr_multiplier
        self.project_parameters = EqualizedLinear(in_features, config.hidden, activation="softplus", lr_multiplier=lr)
        self.project_z = (
            EqualizedLinear(z_dim, config.embedding, activation="softplus", lr_multiplier=lr) if z_dim else None
        )
        self.project_label = LabelEmbedding(num_classes, config.embedding, lr_multiplier=lr) if num_classes else None
        width = config.hidden + config.embedding * (bool(z_dim) + bool(num_classes))
        self.hidden = EqualizedLinear(width, config.hidden, activation="softplus", lr_multiplier=lr)
        self.output = EqualizedLinear(config.hidden, out_features, lr_multiplier=lr)

    def forward(self, parameters: Tensor, z: Tensor | None, labels: Tensor | None) -> Tensor:
        """`[B, in_features]` to `[B, out_features]`."""
        inputs = [self.project_parameters(parameters)]
        if self.project_z is not None:
            inputs.append(normalize_second_moment(self.project_z(z)))
        if self.project_label is not None:
            inputs.append(normalize_second_moment(nn.functional.softplus(self.project_label(labels))))
        return self.output(self.hidden(torch.cat(inputs, dim=1)))


class CameraGenerator(nn.Module):
    """Posterior cameras inside the prior's bounds: the origin sees the class, the look-at point class and z."""

    def __init__(self, config: CameraConfig, z_dim: int, num_classes: int) -> None:
        super().__init__()
        bounds = _bounds(config)
        self._low = tuple(low for low, _ in bounds)
        self._per_span = tuple(1 / (high - low) if high > low else 0.0 for low, high in bounds)
        learned = [
            (low + inset, high - inset)
            for column, (low, high) in enumerate(bounds)
            if column not in (ROLL, RADIUS)
            for inset in [PITCH_INSET if column in (PITCH, LOOK_AT_PITCH) else 0.0]
        ]
        self._learned_low = tuple(low for low, _ in learned)
        self._learned_span = tuple(high - low for low, high in learned)
        self.origin = CameraNetwork(4, 4, 0, num_classes, config)
        self.look_at = CameraNetwork(8, 4, z_dim, num_classes, config)

    def forward(self, prior: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """Prior cameras `[B, 8]`, z `[B, z_dim]` and labels `[B]` to posterior cameras `[B, 8]`.

        Roll is 0 and the radius stays that of the prior.
        """
        of = prior.dtype, prior.device
        unit = (prior - constant(self._low, *of)) * constant(self._per_span, *of)
        angles, roll, fov, radius, look_at = unit.split((ROLL, 1, 1, 1, 3), dim=1)
        angles, rest = self.origin(torch.cat([angles, roll, radius], dim=1), None, labels).split((3, 1), dim=1)
        seen = self.look_at(torch.cat([angles, fov, rest, look_at], dim=1), z, labels)
        shares = torch.sigmoid(torch.cat([angles[:, :ROLL], seen], dim=1))
        learned = torch.addcmul(constant(self._learned_low, *of), shares, constant(self._learned_span, *of))
        origin, fov, look_at = learned.split((ROLL, 1, 3), dim=1)
        return torch.cat([origin, torch.zeros_like(roll), fov, prior[:, RADIUS, None], look_at], dim=1)
