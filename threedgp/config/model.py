"""Sections `camera` and `model` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from threedgp.config.fields import (
    BatchSize,
    Count,
    Fraction,
    Integer,
    Layers,
    Length,
    NonNegative,
    OddInt,
    Positive,
    PowerOfTwo,
    Range,
    Section,
    Width,
)
from threedgp.config.kinds import KINDS


class CameraConfig(Section):
    """Prior over cameras and the camera generator. Angles in radians, field of view in degrees (full angle)."""

    prior: Literal["uniform", "normal", "truncated_normal", "fixed", "estimated"] = "uniform"
    """`estimated`: `uniform`, except that fields of view follow the estimates for images of the class."""
    learned: bool = True
    """Whether the camera generator turns prior cameras into posterior ones."""
    yaw: Range = (-1.57079633, 1.57079633)
    pitch: Range = (0.78539816, 2.35619449)
    fov: Range = (10.0, 45.0)
    yaw_std: NonNegative = 0.4
    """Standard deviation of yaw, for the normal priors; the mean is the middle of the range."""
    pitch_std: NonNegative = 0.2
    """Standard deviation of pitch, for the normal priors."""
    radius: Length = 1.0
    """Distance of the camera from the origin, in scene units."""
    look_at_radius: Range = (0.0, 0.2)
    """Distance from the origin of the point that the camera looks at."""
    ray_start: Length = 0.75
    """Distance along a ray at which sampling starts."""
    ray_end: Length = 1.25
    """Distance along a ray at which sampling ends."""
    hidden: Width = 256
    """Width of the camera generator."""
    embedding: Width = 16
    """Width of its embeddings of the latent code and the class."""
    lr_multiplier: Positive = 0.1
    """Learning rate of the camera generator, relative to that of the generator."""

    @model_validator(mode="after")
    def _ranges(self) -> CameraConfig:
        for key in ("yaw", "pitch", "fov", "look_at_radius"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: the minimum {low} is greater than the maximum {high}")
        if not (0 < self.fov[0] and self.fov[1] < 180):
            raise ValueError(f"fov: {list(self.fov)} degrees is not inside (0, 180)")
        if not (0 < self.pitch[0] and self.pitch[1] < 3.14159265):
            raise ValueError(f"pitch: {list(self.pitch)} is not inside (0, pi)")
        if self.look_at_radius[0] < 0:
            raise ValueError(f"look_at_radius: {self.look_at_radius[0]} is negative")
        if self.ray_end <= self.ray_start:
            raise ValueError(f"ray_end: {self.ray_end} is not greater than ray_start ({self.ray_start})")
        return self


class DepthAdaptorConfig(Section):
    """Maps rendered depth to the depth of an imperfect estimator (3DGP, section 3.2)."""

    mode: Literal["off", "half", "all", "affine"] = "all"
    """Depth of a fake in training. `off`: the rendered depth, scaled. `half`: the scaled depth or the adaptor's last
    output, with probability 0.5 each. `all`: the scaled depth with the probability `train.raw_depth_probability`, or
    the output of one of the layers, with probabilities that change linearly with the layer. `affine`: the scaled depth
    times a factor plus a shift, which a small network chooses for each image; no convolutions."""
    layers: Layers = 3
    channels: Width = 64
    """Channels of the convolutions; `affine`: hidden width of its network."""
    kernel_size: OddInt = 5
    near_offset_share: Fraction = 0.25
    """Maximum offset of the near plane, as a fraction of the distance between `ray_start` and `ray_end`."""
    near_offset_init: Annotated[float, Field(ge=-100, le=100)] = -3.0
    """Initial value of the learned offset, before the sigmoid."""


MAX_PLANE_VALUES = 2**28
"""Values of the largest layer for one image, 1 GiB; the published model has 2^25."""
MAX_RAY_VALUES = 2**15
"""Features of all samples of a ray; the published model has 2^12."""
MAX_IMAGE_SAMPLES = 2**30
"""Samples of the rays of one image; the published model has 2^22."""


class GeneratorConfig(Section):
    """Backbone and renderer."""

    z_dim: Width = 512
    """Dimension of the latent code."""
    w_dim: Width = 512
    """Dimension of the intermediate latent code."""
    mapping_layers: Layers = 2
    mapping_lr_multiplier: Positive = 0.01
    plane_resolution: PowerOfTwo = 512
    """Side of a feature plane; `stylegan2`: of the image; `volumegan`: of the feature volume."""
    plane_channels: Width = 32
    """Channels of each of the three planes."""
    channel_base: Count = 65536
    """A layer has min(channel_base / resolution, channel_max) channels."""
    channel_max: Width = 1024
    noise: bool = True
    """Per-pixel noise inputs of the backbone; `volumegan` and `stylenerf` have none."""
    decoder_hidden: Width = 64
    """Width of the decoder from plane features to color and density."""
    cube_half_width: Length = 0.5
    """The planes cover [-cube_half_width, cube_half_width] along every axis."""
    coarse_samples: Annotated[Integer, Field(ge=2, le=1024)] = 32
    """Stratified samples per ray."""
    fine_samples: Annotated[Integer, Field(ge=0, le=1024)] = 32
    """Importance samples per ray; 0 = none."""
    last_back: bool = False
    """Whether the last sample of a ray gets the remaining weight."""
    infinite_last_interval: bool = True
    """Whether the last sample extends to infinity."""
    contraction: bool = False
    """Whether the planes cover all of space, contracted outside the cube (Mip-NeRF 360). Kinds with planes only."""
    background: Literal["none", "planes"] = "none"
    """What is seen behind the end of the rays. `planes`: three more planes, which cover the space outside of the cube,
    contracted. Light then passes the last sample, whatever `last_back` and `infinite_last_interval` say, as it does in
    kind `stylenerf`, which has a background of its own."""
    upsampling: Literal[1, 2, 4, 8, 16] = 1
    """Factor by which 2D convolutions enlarge rendered features to the image; 1 = the colors of all pixels are
    rendered."""
    feature_channels: Annotated[Integer, Field(ge=3, le=2**13)] = 32
    """Rendered features of a pixel, of kinds with upsampling; the first three are a color."""
    upsampling_channels: Width = 128
    """Channels of the first block that doubles the size of rendered features; each further one has half of them."""
    field_layers: Layers = 8
    """Modulated layers of the field of `stylenerf`; its background has half of them."""
    pose_conditioning: bool = False
    """Whether the mapping network sees the camera (EG3D, section 4.4)."""
    published_planes: bool = False
    """Whether the planes are xy, xz and zx, as in the published EG3D models, and not xy, xz and yz."""

    @model_validator(mode="after")
    def _layers_are_possible(self) -> GeneratorConfig:
        side, samples = self.plane_resolution, self.coarse_samples + self.fine_samples
        if self.channel_base < side:
            raise ValueError(
                f"channel_base: {self.channel_base} leaves layers without channels; set it to {side} or more "
                "(model.generator.plane_resolution)"
            )
        num_planes = 3 if self.background == "none" else 6
        channels = max(num_planes * self.plane_channels, min(self.channel_base // side, self.channel_max))
        if side**2 * channels > MAX_PLANE_VALUES:
            raise ValueError(f"plane_resolution: {side}x{side} values in {channels} channels are too many; lower it")
        features = self.feature_channels if self.upsampling > 1 else 4
        if samples * max(self.decoder_hidden, self.plane_channels, features) > MAX_RAY_VALUES:
            raise ValueError(f"coarse_samples: {samples} samples per ray are too many for so wide a decoder; lower it")
        return self


class DiscriminatorConfig(Section):
    """Discriminator with a second head that predicts classifier features."""

    patch_resolution: PowerOfTwo = 64
    """Side of the patches, at most `dataset.resolution`; kinds without patches: equal to it."""
    channel_base: Count = 65536
    """A layer has min(channel_base / resolution, channel_max) channels."""
    channel_max: Width = 1024
    minibatch_std_group: BatchSize = 4
    """Group size of the minibatch standard deviation."""
    patch_encoding_width: Width = 512
    """Width of the vector that modulates the blocks; it is mapped from the encoding of a patch's scale and offsets."""
    conditioning: Literal["published", "balanced"] = "published"
    """How the discriminator learns a patch's position and class. `published`: sines and a table of 1,001 embeddings,
    which scale and offsets share, beside a one-hot class. The table starts as noise and hides the class until its rows
    have been trained. `balanced`: no table; position and class are embedded with equal norm. Short runs need it."""
    normals: bool = False
    """Whether it also sees the normals of the depth of real and generated patches."""


class ModelConfig(Section):
    """Networks."""

    kind: Literal[tuple(KINDS)] = "3dgp"
    """System that is trained, see docs/kinds.md. Parts that it does not have must be switched off."""
    class_conditional: bool = True
    depth: bool = True
    """Whether the discriminator sees depth; otherwise geometry is learned from color alone, as in EpiGRAF."""
    depth_axis: Literal["ray", "z"] = "ray"
    """Depth that the adaptor gets: along the ray (published), or along the optical axis, as estimators predict it."""
    recompute: bool = False
    """Activation checkpointing: training computes the activations of the backbone twice instead of storing them."""
    generator: GeneratorConfig = GeneratorConfig()
    depth_adaptor: DepthAdaptorConfig = DepthAdaptorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    def size_problem(self, resolution: int) -> str | None:
        """Why scenes, or images of `resolution` pixels along each side, would take too much memory or time; None if
        they do not."""
        sizes, side = self.generator, self.generator.plane_resolution
        channels = max(sizes.plane_channels, min(sizes.channel_base // side, sizes.channel_max))
        if KINDS[self.kind].volume and side**3 * channels > MAX_PLANE_VALUES:
            return (
                f"model.generator.plane_resolution: a volume of {side}x{side}x{side} values in {channels} channels is "
                f"too large for kind '{self.kind}'; lower it"
            )
        samples = sizes.coarse_samples + sizes.fine_samples
        if resolution**2 * samples > MAX_IMAGE_SAMPLES:
            return (
                f"model.generator.coarse_samples: {samples} samples per ray are too many for {resolution} px; lower it"
            )
        return None
