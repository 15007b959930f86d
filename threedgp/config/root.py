"""The whole ``params.yaml``: its sections, the constraints between them, and how the file is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationError, model_validator

from threedgp.config.data import (
    DatasetConfig,
    DepthConfig,
    DownloadConfig,
    EmbedConfig,
    FeaturesConfig,
    PrepareConfig,
    SelectConfig,
    ShardsConfig,
)
from threedgp.config.errors import explain
from threedgp.config.fields import Few, Fraction, Positive, Section, Text
from threedgp.config.kinds import kind_problem
from threedgp.config.model import CameraConfig, ModelConfig
from threedgp.config.reading import read_yaml
from threedgp.config.results import EvaluateConfig, RenderConfig, ReportConfig
from threedgp.config.train import TrainConfig
from threedgp.runtime.addresses import address_problem
from threedgp.runtime.errors import UserError


def _valid_address(value: str) -> str:
    problem = address_problem(value)
    if problem:
        raise ValueError(problem)
    return value


class MachineConfig(Section):
    """How this machine is used. Results do not depend on it, and so no stage does."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Few = 1
    """Number of processes per stage, one for each GPU, in `prepare`, `features`, `depth`, `embed`, `train` and
    `evaluate`. Ignored under torchrun."""
    workers: Few = 2
    """Number of threads per process that read and decode, and that compute features where there is no GPU; for source
    `procedural`, the number of processes that render."""
    max_reject_fraction: Fraction = 0.2
    """`prepare`: maximum fraction of rejected images; more are an error, as `dataset.path` is then probably wrong."""
    connections: Few = 4
    """Number of simultaneous downloads."""
    mirror: Annotated[Text, AfterValidator(_valid_address)] | None = None
    """Folder or URL where files are looked for by name before they are downloaded from their own addresses."""
    requests_per_second: Positive = 20.0
    """Maximum rate of requests to one host, for `sdip` from the authors' list of URLs."""
    max_dead_links: Fraction = 0.3
    """Maximum fraction of missing images, for `sdip` from the authors' list of URLs; more are an error."""
    verify_md5: bool = True
    """Whether the MD5 of the official ImageNet tar is verified, which reads all 148 GB once."""


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

    @model_validator(mode="after")
    def _networks_fit_the_images(self) -> Config:
        patch, image = self.model.discriminator.patch_resolution, self.dataset.resolution
        if patch > image:
            raise ValueError(
                f"model.discriminator.patch_resolution: a patch of {patch} pixels is larger than the image "
                f"(dataset.resolution is {image})"
            )
        if problem := self.model.size_problem(image):
            raise ValueError(problem)
        base = self.model.discriminator.channel_base
        if base < image:  # the layer of this resolution has base // image channels
            raise ValueError(
                f"model.discriminator.channel_base: {base} leaves layers without channels; set it to {image} or more "
                "(dataset.resolution)"
            )
        return self

    @model_validator(mode="after")
    def _batch_is_divisible(self) -> Config:
        problem = batch_problem(self, processes=1)  # stage `train` checks the number of processes
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _kind_has_every_part(self) -> Config:
        if problem := kind_problem(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _stages_get_what_they_need(self) -> Config:
        if self.train.publish == "best" and not self.train.metric_kimg:
            raise ValueError("train.publish: 'best' needs measurements; set train.metric_kimg, or publish 'last'")
        if self.train.publish == "posthoc" and not self.train.posthoc_ema.snapshot_kimg:
            raise ValueError("train.publish: 'posthoc' needs snapshots; set train.posthoc_ema.snapshot_kimg")
        if self.train.distillation.loss != "none" and self.embed.network == "none":
            raise ValueError("train.distillation.loss: distillation needs features, but embed.network is 'none'")
        if self.depth.estimator == "none" and self.model.depth:
            raise ValueError("model.depth: the discriminator needs depth maps, but depth.estimator is 'none'")
        if self.model.discriminator.normals and not self.model.depth:
            raise ValueError(
                "model.discriminator.normals: they are those of depth, but model.depth is false; set normals to false"
            )
        if self.dataset.source == "procedural" and self.download.resolution < self.dataset.resolution:
            raise ValueError(
                f"download.resolution: {self.download.resolution} pixels are fewer than "
                f"dataset.resolution ({self.dataset.resolution})"
            )
        return self

    @model_validator(mode="after")
    def _schedules_stay_in_range(self) -> Config:
        num_candidates = self.model.depth_adaptor.layers + 1
        for end in ("start", "end"):
            for key in ("pose_swap", "growing"):
                if getattr(getattr(self.train, key), end) > 1:
                    raise ValueError(f"train.{key}.{end}: must be at most 1")
            if getattr(self.train.patch_scale_beta, end) <= 0:
                raise ValueError(f"train.patch_scale_beta.{end}: the parameter of a Beta distribution must be positive")
            # The probabilities of the candidates change linearly around 1 / K: the last one is 2 / K minus the first.
            probability = getattr(self.train.raw_depth_probability, end)
            if not 0 <= probability <= 2 / num_candidates:
                raise ValueError(
                    f"train.raw_depth_probability.{end}: {probability} makes the probability of the last of the "
                    f"{num_candidates} candidates negative; use a value in [0, {2 / num_candidates:g}]"
                )
        return self


def batch_problem(config: Config, processes: int) -> str | None:
    """Why `train.batch_size` cannot be divided among `processes` processes; None if it can.

    Each process divides its part into `train.accumulation` pieces of whole minibatch standard deviation groups.
    """
    batch, pieces = config.train.batch_size, config.train.accumulation
    group = config.model.discriminator.minibatch_std_group
    if batch % (processes * pieces * group) == 0:
        return None
    return (
        f"train.batch_size: {batch} is not a multiple of {processes * pieces * group} (processes {processes} x "
        f"train.accumulation {pieces} x model.discriminator.minibatch_std_group {group})"
    )


def parse_config(values: Any, source: str = "params.yaml") -> Config:
    """Validate the content of the params file `source`.

    Raises:
        UserError: names the first wrong key, as ``source: section.key: why``.
    """
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise UserError(f"{source}: expected sections such as 'dataset' and 'train', found {found}.")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # A misspelled key also leaves the right one missing; the misspelling is reported.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UserError(explain(first, Config, source)) from None


def load_config(path: Path | str = "params.yaml", *, complete: bool = False) -> Config:
    """Read and validate a params file.

    Args:
        path: the file.
        complete: whether every key must be set, except in section ``machine``. DVC tracks the values in the file, so
            that a changed default of a missing key would not run anything again.

    Raises:
        UserError: the file is missing, is not valid YAML, or has a wrong or missing key.
    """
    path = Path(path)
    config = parse_config(read_yaml(path), str(path))
    missing = next((key for key in unset_keys(config) if not key.startswith("machine")), None)
    if complete and missing:
        raise UserError(f"{path}: key '{missing}' is missing; DVC tracks the values in the file, so add it.")
    return config


def unset_keys(section: Section, path: str = "") -> Iterator[str]:
    """Dotted keys of `section` that have their default because the file does not set them."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if key not in section.model_fields_set:
            yield path + key
        elif isinstance(value, Section):
            yield from unset_keys(value, f"{path}{key}.")
