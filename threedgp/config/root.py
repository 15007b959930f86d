"""All of ``params.yaml``, how its sections fit together, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

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
from threedgp.config.fields import Fraction, PositiveInt, Section
from threedgp.config.model import CameraConfig, ModelConfig
from threedgp.config.reading import read_yaml
from threedgp.config.results import EvaluateConfig, RenderConfig, ReportConfig
from threedgp.config.train import TrainConfig
from threedgp.runtime.addresses import address_problem
from threedgp.runtime.errors import UserError


def _fetchable(place: str) -> str:
    problem = address_problem(place)
    if problem:
        raise ValueError(problem)
    return place


class MachineConfig(Section):
    """How to use this machine. Changes no result, so no stage depends on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: PositiveInt = 1
    """Processes that `prepare`, `features`, `depth`, `embed`, `train`, `evaluate` start on this machine, one for each
    GPU; under torchrun those that it started count."""
    workers: PositiveInt = 2
    """Threads of each process that read and decode, and compute features where there is no GPU."""
    max_reject_fraction: Fraction = 0.2
    """`prepare`: more rejected pictures than this share are an error, for the folder is probably not what it should
    be."""
    connections: PositiveInt = 4
    """Downloads at once."""
    mirror: Annotated[str, AfterValidator(_fetchable)] | None = None
    """Folder or URL below which files are looked for by name before their own addresses are tried."""
    requests_per_second: Annotated[float, Field(gt=0)] = 20.0
    """`sdip` from the authors' list of URLs: to one host, at most."""
    max_dead_links: Fraction = 0.3
    """`sdip` from the authors' list of URLs: more vanished pictures than this share are an error."""
    verify_md5: bool = True
    """`imagenet` from the official tar: compare its MD5, which reads all 148 GB once, before days of work on it."""


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
        planes = self.model.generator.plane_resolution
        for key, base, size, what in (
            ("generator", self.model.generator.channel_base, planes, "model.generator.plane_resolution"),
            ("discriminator", self.model.discriminator.channel_base, image, "dataset.resolution"),
        ):
            if base < size:  # a layer of that resolution has base // size channels
                raise ValueError(
                    f"model.{key}.channel_base: {base} leaves layers without channels; set it to {size} "
                    f"or more ({what})"
                )
        group, batch = self.model.discriminator.minibatch_std_group, self.train.batch_size
        if batch % group:
            raise ValueError(
                f"train.batch_size: {batch} is no multiple of model.discriminator.minibatch_std_group ({group})"
            )
        problem = batch_problem(self, processes=1)  # training alone needs more, and sees to it
        if problem:
            raise ValueError(problem)
        if self.model.kind == "epigraf":
            for key, value, wanted in (
                ("model.depth", self.model.depth, False),
                ("camera.learned", self.camera.learned, False),
                ("train.distillation.loss", self.train.distillation.loss, "none"),
            ):
                if value != wanted:
                    wanted = wanted or "false"
                    raise ValueError(f"model.kind: 'epigraf' has no such part; set {key} to {wanted}")
        if self.train.publish == "best" and not self.train.metric_kimg:
            raise ValueError("train.publish: 'best' needs measurements; set train.metric_kimg, or publish 'last'")
        if self.train.distillation.loss != "none" and self.embed.network == "none":
            raise ValueError("train.distillation.loss: distillation needs features, but embed.network is 'none'")
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


def batch_problem(config: Config, processes: int) -> str | None:
    """Why `train.batch_size` cannot be shared out to so many processes; None if it can.

    Each cuts its share into `train.accumulation` pieces, which hold whole groups of the minibatch standard deviation.
    """
    batch, pieces = config.train.batch_size, config.train.accumulation
    group = config.model.discriminator.minibatch_std_group
    if batch % (processes * pieces * group) == 0:
        return None
    return (
        f"train.batch_size: {batch} is no multiple of {processes * pieces * group} (processes {processes} x "
        f"train.accumulation {pieces} x model.discriminator.minibatch_std_group {group})"
    )


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
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the project or pass --params.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); pass a file with --params.") from None
    return parse_config(read_yaml(content, str(path)), str(path))
