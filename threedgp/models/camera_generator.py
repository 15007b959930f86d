"""Camera generator: turns prior cameras into the posterior cameras that are used (3DGP, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import RADIUS
from threedgp.camera.priors import LOOK_AT_PITCH_BOUNDS, LOOK_AT_YAW_BOUNDS, PITCH_INSET
from threedgp.config import CameraConfig
from threedgp.models.layers import EqualizedLinear, normalize_second_moment
from threedgp.models.mapping import LabelEmbedding


class CameraNetwork(nn.Module):
    """Maps camera parameters, optionally with z and class, to raw outputs."""

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
        """Map `[B, in_features]` to `[B, out_features]`."""
        inputs = [self.project_parameters(parameters)]
        if self.project_z is not None:
            inputs.append(normalize_second_moment(self.project_z(z)))
        if self.project_label is not None:
            inputs.append(normalize_second_moment(F.softplus(self.project_label(labels))))
        return self.output(self.hidden(torch.cat(inputs, dim=1)))


class CameraGenerator(nn.Module):
    """Posterior cameras within the bounds of the prior.

    The origin depends on the prior camera and the class, the look-at point and the field of view also on z.
    """

    def __init__(self, config: CameraConfig, z_dim: int, num_classes: int) -> None:
        super().__init__()
        self.origin = CameraNetwork(4, 4, 0, num_classes, config)
        self.look_at = CameraNetwork(8, 4, z_dim, num_classes, config)

        # Roll and radius enter the networks as they are.
        look_at = [LOOK_AT_YAW_BOUNDS, LOOK_AT_PITCH_BOUNDS, config.look_at_radius]
        low, high = torch.tensor([config.yaw, config.pitch, (0, 1), config.fov, (0, 1), *look_at]).unbind(dim=1)
        self.register_buffer("input_low", low, persistent=False)
        self.register_buffer("input_scale", torch.where(high > low, 1 / (high - low), 0), persistent=False)
        pitch, look_at_pitch = (
            (low + PITCH_INSET, high - PITCH_INSET) for low, high in (config.pitch, LOOK_AT_PITCH_BOUNDS)
        )
        outputs = [config.yaw, pitch, config.fov, LOOK_AT_YAW_BOUNDS, look_at_pitch, config.look_at_radius]
        low, high = torch.tensor(outputs).unbind(dim=1)
        self.register_buffer("output_low", low, persistent=False)
        self.register_buffer("output_range", high - low, persistent=False)

    def forward(self, prior: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """Map prior cameras `[B, 8]`, z `[B, z_dim]` and labels `[B]` to posterior cameras `[B, 8]`.

        Roll is 0 and the radius stays that of the prior.
        """
        unit = (prior - self.input_low) * self.input_scale
        yaw_pitch, roll, fov, radius, look_at = unit.split((2, 1, 1, 1, 3), dim=1)
        origin = self.origin(torch.cat([yaw_pitch, roll, radius], dim=1), None, labels)
        angles, raw_radius = origin.split((3, 1), dim=1)
        look_at = self.look_at(torch.cat([angles, fov, raw_radius, look_at], dim=1), z, labels)

        raw = torch.cat([angles[:, :2], look_at], dim=1)  # yaw, pitch, fov; yaw, pitch and radius of the look-at point
        outputs = self.output_low + torch.sigmoid(raw) * self.output_range
        yaw_pitch, fov, look_at = outputs.split((2, 1, 3), dim=1)
        return torch.cat([yaw_pitch, torch.zeros_like(roll), fov, prior[:, RADIUS, None], look_at], dim=1)
