"""Camera generator: turns prior cameras into the posterior ones that are used (3DGP, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from threedgp.camera.priors import LOOK_AT_PITCH_BOUNDS, LOOK_AT_YAW_BOUNDS
from threedgp.config import CameraConfig
from threedgp.models.layers import EqualizedLinear, normalize_second_moment
from threedgp.models.mapping import LabelEmbedding

PITCH_INSET = 1e-5  # the pose is undefined where the camera looks straight up or down


def _to_unit(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    span = bounds[1] - bounds[0]
    return (x - bounds[0]) / span if span > 0 else torch.zeros_like(x)


def _from_raw(x: Tensor, bounds: tuple[float, float], inset: float = 0.0) -> Tensor:
    low, high = bounds[0] + inset, bounds[1] - inset
    return torch.sigmoid(x) * (high - low) + low


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
        self.config = config
        self.origin = CameraNetwork(4, 4, 0, num_classes, config)
        self.look_at = CameraNetwork(8, 4, z_dim, num_classes, config)

    def forward(self, prior: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """Prior cameras `[B, 8]`, z `[B, z_dim]` and labels `[B]` to posterior cameras `[B, 8]`.

        Roll is 0 and the radius stays that of the prior.
        """
        config = self.config
        yaw, pitch, roll, fov, radius, look_yaw, look_pitch, look_radius = prior.unbind(-1)
        origin = self.origin(
            torch.stack([_to_unit(yaw, config.yaw), _to_unit(pitch, config.pitch), roll, radius], dim=1), None, labels
        )
        look_at = self.look_at(
            torch.cat(
                [
                    origin[:, :3],
                    torch.stack(
                        [
                            _to_unit(fov, config.fov),
                            origin[:, 3],
                            _to_unit(look_yaw, LOOK_AT_YAW_BOUNDS),
                            _to_unit(look_pitch, LOOK_AT_PITCH_BOUNDS),
                            _to_unit(look_radius, config.look_at_radius),
                        ],
                        dim=1,
                    ),
                ],
                dim=1,
            ),
            z,
            labels,
        )
        return torch.stack(
            [
                _from_raw(origin[:, 0], config.yaw),
                _from_raw(origin[:, 1], config.pitch, PITCH_INSET),
                torch.zeros_like(roll),
                _from_raw(look_at[:, 0], config.fov),
                radius,
                _from_raw(look_at[:, 1], LOOK_AT_YAW_BOUNDS),
                _from_raw(look_at[:, 2], LOOK_AT_PITCH_BOUNDS, PITCH_INSET),
                _from_raw(look_at[:, 3], config.look_at_radius),
            ],
            dim=1,
        )
