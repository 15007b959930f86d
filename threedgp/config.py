"""Typed, validated view of ``params.yaml``.

Every setting of the pipeline is a field here, with its default. The defaults are the published configuration of
3DGP on ImageNet (arXiv 2303.01416), so that a preset states only how it differs. Unknown keys, wrong units and
impossible combinations are errors that name the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from threedgp.config_errors import explain
from threedgp.config_fields import (
    Fraction,
    NonNegative,
    OddInt,
    PositiveInt,
    PowerOfTwo,
    Range,
    Section,
)
from threedgp.config_train import TrainConfig
from threedgp.errors import UserError

# ---------------------------------------------------------------------------------------------------------------------
# Shared sections: more than one stage depends on them.


class DatasetConfig(Section):
    """Which pictures, and how large."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "imagenet"
    """Name of the folder under `data/`."""
    source: Literal["procedural", "folder", "rgbd"] = "folder"
    path: str | None = None
    """Folder (or, for `rgbd`, zip file) that holds the pictures; sources that need none take null."""
    resolution: Annotated[PowerOfTwo, Field(ge=8)] = 256
    """Side of the pictures in pixels; metrics look at patches of 7."""

    @model_validator(mode="after")
    def _path_matches_source(self) -> DatasetConfig:
        if self.source != "procedural" and not self.path:
            raise ValueError(f"path: source '{self.source}' needs the folder that holds the pictures")
        return self


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


# ---------------------------------------------------------------------------------------------------------------------
# One section for each stage, same name.


class DownloadConfig(Section):
    """Stage `download`. The settings are those of the procedural source; other sources are read where they lie."""

    count: PositiveInt = 4096
    resolution: PowerOfTwo = 64
    seed: int = 0


class PrepareConfig(Section):
    """Stage `prepare`: square crops at `dataset.resolution`."""

    encoding: Literal["png", "jpeg"] = "png"
    """Lossless PNG, or JPEG of quality 95."""
    shard_rows: PositiveInt = 4096
    max_reject_fraction: Fraction = 0.2
    """More rejected pictures than this share are an error: the folder is probably not what it should be."""


class FeaturesConfig(Section):
    """Stage `features`: what selection and the Frechet distance are computed on."""

    network: Literal["inception", "efficientnet_lite0"] = "inception"
    weights: str | None = None
    """Local path of the Inception weights; EfficientNet-Lite0 comes with its package."""
    input_size: PositiveInt = 299
    """Side to which pictures are resized before the network (Inception: always 299, inside the network)."""
    batch_size: PositiveInt = 64


class SelectConfig(Section):
    """Stage `select`: instance selection (one Gaussian for each class)."""

    keep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.3333
    covariance_regulariser: Annotated[float, Field(gt=0)] = 1e-5


class DepthConfig(Section):
    """Stage `depth`: monocular depth of the selected pictures."""

    estimator: Literal["none", "sidecar", "simulated"] = "sidecar"
    strength: NonNegative = 1.0
    """How inaccurate `simulated` makes the true depth: 0 = the truth, 1 = like an off-the-shelf estimator."""
    clip_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    """Percentile cut at both ends before the min-max scaling; 0 is the published protocol."""
    seed: int = 0


class EmbedConfig(Section):
    """Stage `embed`: classifier features that the discriminator learns to predict."""

    network: Literal["none", "efficientnet_lite0"] = "efficientnet_lite0"
    input_size: PositiveInt = 224
    batch_size: PositiveInt = 64


class ShardsConfig(Section):
    """Stage `shards`: globally shuffled training shards."""

    rows_per_shard: PositiveInt = 4096
    row_group_rows: PositiveInt = 32
    seed: int = 0


class EvaluateConfig(Section):
    """Stage `evaluate`."""

    samples: PositiveInt = 50000
    batch_size: PositiveInt = 32
    seed: int = 0
    nfs_samples: PositiveInt = 256


class RenderConfig(Section):
    """Stage `render`: what people look at."""

    seed: int = 0
    grid: tuple[PositiveInt, PositiveInt] = (4, 8)
    """Rows and columns of the picture grid."""
    truncation: Fraction = 1.0
    views: PositiveInt = 7
    """Cameras from which each scene of the view strip is shown."""
    flights: Annotated[int, Field(ge=0)] = 4
    """Scenes shown side by side in the camera flight; 0 = no video."""
    flight_frames: PositiveInt = 48
    meshes: Annotated[int, Field(ge=0)] = 1
    mesh_resolution: Annotated[int, Field(ge=8)] = 128


class ReportConfig(Section):
    """Stage `report`."""

    title: str = "3DGP"


class MachineConfig(Section):
    """How to use this machine. Changes no result, so no stage depends on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: PositiveInt = 1
    """Processes that `train` starts on this machine, one for each GPU; under torchrun those that it started count."""
    workers: PositiveInt = 2
    """Threads that read and decode, in each process."""


class Config(Section):
    """All of ``params.yaml``."""

    dataset: DatasetConfig
    camera: CameraConfig = CameraConfig()
    model: ModelConfig = ModelConfig()
    download: DownloadConfig = DownloadConfig()
    prepare: PrepareConfig = PrepareConfig()
    features: FeaturesConfig = FeaturesConfig()
    select: SelectConfig = SelectConfig()
    depth: DepthConfig = DepthConfig()
    embed: EmbedConfig = EmbedConfig()
    shards: ShardsConfig = ShardsConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    render: RenderConfig = RenderConfig()
    report: ReportConfig = ReportConfig()
    machine: MachineConfig = MachineConfig()

    def _schedules(self) -> None:
        candidates = self.model.depth_adaptor.layers + 1
        for end in ("start", "end"):
            for name in ("density_noise", "blur_sigma"):
                value = getattr(getattr(self.train, name), end)
                if value < 0:
                    raise ValueError(f"train.{name}.{end}: a deviation of {value} is negative")
            if getattr(self.train.patch_scale_beta, end) <= 0:
                raise ValueError(f"train.patch_scale_beta.{end}: the Beta law needs a value above 0")
            # Probabilities rise or fall linearly around 1 / K, so that the last is 2 / K minus the first.
            probability = getattr(self.train.raw_depth_probability, end)
            if not 0 <= probability <= 2 / candidates:
                raise ValueError(
                    f"train.raw_depth_probability.{end}: {probability} leaves no probability for the last of the "
                    f"{candidates} candidates; give a value in [0, {2 / candidates:g}]"
                )

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        patch, image = self.model.discriminator.patch_resolution, self.dataset.resolution
        if patch > image:
            raise ValueError(
                f"model.discriminator.patch_resolution: a patch of {patch} pixels is larger than the image "
                f"(dataset.resolution is {image})"
            )
        group, batch = self.model.discriminator.minibatch_std_group, self.train.batch_size
        if batch % group:
            raise ValueError(
                f"train.batch_size: {batch} is no multiple of model.discriminator.minibatch_std_group ({group})"
            )
        pieces = self.train.accumulation * self.machine.processes
        if batch % (group * pieces):
            raise ValueError(
                f"train.batch_size: {batch} is no multiple of {group * pieces} (machine.processes "
                f"{self.machine.processes} x train.accumulation {self.train.accumulation} x "
                f"model.discriminator.minibatch_std_group {group})"
            )
        if self.model.kind == "epigraf":
            for key, value, wanted in (
                ("model.depth", self.model.depth, False),
                ("camera.learned", self.camera.learned, False),
                ("train.distillation.loss", self.train.distillation.loss, "none"),
            ):
                if value != wanted:
                    wanted = wanted or "false"
                    raise ValueError(f"model.kind: 'epigraf' has no such part; set {key} to {wanted}")
        if self.train.distillation.loss != "none" and self.embed.network == "none":
            raise ValueError("train.distillation.loss: distillation needs features, but embed.network is 'none'")
        if self.depth.estimator == "simulated" and self.dataset.source != "procedural":
            raise ValueError(
                f"depth.estimator: 'simulated' needs true depth, which source '{self.dataset.source}' does not have"
            )
        if self.depth.estimator == "sidecar" and self.dataset.source == "folder":
            raise ValueError(
                "depth.estimator: 'sidecar' needs depth maps, which source 'folder' does not have; "
                "set it to 'none' and model.depth to false, or use source 'rgbd'"
            )
        if self.depth.estimator == "none" and self.model.depth:
            raise ValueError("model.depth: the discriminator is to see depth, but depth.estimator is 'none'")
        if self.dataset.source == "procedural" and self.download.resolution < self.dataset.resolution:
            raise ValueError(
                f"download.resolution: {self.download.resolution} pixels are fewer than "
                f"dataset.resolution ({self.dataset.resolution})"
            )
        self._schedules()
        return self


# ---------------------------------------------------------------------------------------------------------------------


def parse_config(values: Any, source: str = "params.yaml") -> Config:
    """Validate the content of a params file.

    Raises:
        UserError: naming the first offending key, as ``source: section.key: why``.
    """
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise UserError(f"{source}: expected sections such as 'dataset' and 'train', found {found}.")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # A misspelt key also leaves the right one missing: the misspelling is what to tell.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UserError(explain(first, Config, source)) from None


def load_config(path: Path | str = "params.yaml") -> Config:
    """Read and validate a params file.

    Raises:
        UserError: the file is missing, is no YAML, or holds a wrong key or value.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the project or pass --params.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); pass a file with --params.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this is no YAML: {' '.join(str(error).split())}") from None
    return parse_config(values, str(path))
