"""Sections `camera` and `model` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from threedgp.config.fields import Fraction, NonNegative, OddInt, PositiveInt, PowerOfTwo, Range, Section


class CameraConfig(Section):
    """Prior over cameras and the camera generator. Angles in radians, field of view in degrees (full angle)."""

    prior: Literal["uniform", "normal", "truncated_normal", "fixed"] = "uniform"
    learned: bool = True
    """Whether the camera generator turns prior cameras into posterior ones."""
    yaw: Range = (-1.57079633, 1.57079633)
    pitch: Range = (0.78539816, 2.35619449)
    fov: Range = (10.0, 45.0)
    yaw_std: NonNegative = 0.4
    """Deviation of yaw around the middle of its bounds, for the normal priors."""
    pitch_std: NonNegative = 0.2
    radius: Annotated[float, Field(gt=0)] = 1.0
    look_at_radius: Range = (0.0, 0.2)
    ray_start: Annotated[float, Field(gt=0)] = 0.75
    ray_end: Annotated[float, Field(gt=0)] = 1.25
    hidden: PositiveInt = 256
    embedding: PositiveInt = 16
    lr_multiplier: Annotated[float, Field(gt=0)] = 0.1

    @model_validator(mode="after")
    def _ranges(self) -> CameraConfig:
        for key in ("yaw", "pitch", "fov", "look_at_radius"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: the smallest value {low} lies above the largest {high}")
        if not (0 < self.fov[0] and self.fov[1] < 180):
            raise ValueError(f"fov: {list(self.fov)} degrees does not lie inside (0, 180)")
        if not (0 < self.pitch[0] and self.pitch[1] < 3.14159265):
            raise ValueError(f"pitch: {list(self.pitch)} does not lie inside (0, pi)")
        if self.look_at_radius[0] < 0:
            raise ValueError(f"look_at_radius: {self.look_at_radius[0]} is negative")
        if self.ray_end <= self.ray_start:
            raise ValueError(f"ray_end: {self.ray_end} is not beyond ray_start ({self.ray_start})")
        return self


class DepthAdaptorConfig(Section):
    """Bridges rendered depth and the depth of the imperfect estimator."""

    mode: Literal["off", "half", "all"] = "all"
    """Which fakes show adapted depth: none, each with probability 0.5, or all."""
    layers: PositiveInt = 3
    channels: PositiveInt = 64
    kernel_size: OddInt = 5
    near_offset_share: Fraction = 0.25
    """Largest near-plane offset, as a share of the ray's length."""
    near_offset_init: float = -3.0
    """Starting value of the learned offset, before its sigmoid."""


class GeneratorConfig(Section):
    """Tri-plane generator."""

    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 2
    mapping_lr_multiplier: Annotated[float, Field(gt=0)] = 0.01
    plane_resolution: PowerOfTwo = 512
    plane_channels: PositiveInt = 32
    channel_base: PositiveInt = 65536
    channel_max: PositiveInt = 1024
    noise: bool = True
    """Per-pixel noise inputs of the backbone."""
    decoder_hidden: PositiveInt = 64
    cube_half_width: Annotated[float, Field(gt=0)] = 0.5
    coarse_samples: Annotated[int, Field(ge=2)] = 32
    fine_samples: Annotated[int, Field(ge=0)] = 32
    last_back: bool = False
    """Give the weight that is left at a ray's end to its last sample."""
    infinite_last_interval: bool = True
    contraction: bool = False
    """The planes cover all of space, contracted beyond the cube's half-width (Mip-NeRF 360)."""


class DiscriminatorConfig(Section):
    """Patch-wise discriminator with a second head that predicts classifier features."""

    patch_resolution: PowerOfTwo = 64
    channel_base: PositiveInt = 65536
    channel_max: PositiveInt = 1024
    minibatch_std_group: PositiveInt = 4
    patch_encoding_width: PositiveInt = 512


class ModelConfig(Section):
    """Networks of 3DGP."""

    kind: Literal["3dgp", "epigraf"] = "3dgp"
    """`epigraf` makes sure that nothing of 3DGP is on: no depth, no learned cameras, no distillation."""
    class_conditional: bool = True
    depth: bool = True
    """Whether the discriminator sees depth; without it geometry is learned from colour alone (EpiGRAF)."""
    depth_axis: Literal["ray", "z"] = "ray"
    """What the adaptor is given: distance along the ray (published), or along the optical axis like an estimator's."""
    generator: GeneratorConfig = GeneratorConfig()
    depth_adaptor: DepthAdaptorConfig = DepthAdaptorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
