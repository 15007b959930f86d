"""Sections of ``params.yaml`` for the data: `dataset` and the stages up to `shards`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from threedgp.config.choices import names
from threedgp.config.fields import (
    MIN_IMAGES,
    BatchSize,
    Count,
    Name,
    Pixels,
    Positive,
    PowerOfTwo,
    Section,
    Seed,
    ShardRows,
    Text,
)


class DatasetConfig(Section):
    """The data set."""

    name: Name = "imagenet"
    """Outputs go to ``data/<name>``, so that several data sets are kept side by side."""
    source: Literal[names("threedgp.data.sources")] = "imagenet"
    """Name of a module in ``threedgp/data/sources``."""
    path: Text | None = None
    """Folder or archive of the images; null = the source renders or downloads them."""
    subset: Text | None = None
    """Part of the source: `dogs` or `elephants` of `sdip`, `horse` of `lsun`, `horse_dog`, `animals` or `all` of
    `cifar10`, null for the others."""
    resolution: Annotated[PowerOfTwo, Field(ge=8)] = 256
    """Side of the images in pixels; at least 8, as metrics use patches of 7 pixels."""


class DownloadConfig(Section):
    """Stage `download`: settings of source `procedural`."""

    count: Annotated[Count, Field(ge=MIN_IMAGES)] = 4096
    """Number of images."""
    resolution: PowerOfTwo = 64
    """Side of the images in pixels, at least `dataset.resolution`."""
    seed: Seed = 0


class PrepareConfig(Section):
    """Stage `prepare`: square crops at `dataset.resolution`."""

    encoding: Literal["webp", "png", "jpeg"] = "webp"
    """WebP and PNG are lossless, and PNG takes a third more; JPEG (quality 95) takes less than half of WebP."""
    shard_rows: ShardRows = 4096
    """Images per file, which is the unit of work and of resumption of the stages before `shards`."""


class FeaturesConfig(Section):
    """Stage `features`: features for instance selection and the Frechet distance."""

    network: Literal[names("threedgp.features.networks")] = "inception"
    """Name of a module in ``threedgp/features/networks``."""
    weights: Text | None = None
    """Path or URL of the Inception weights; null = those of torch-fidelity. A package holds those of
    `efficientnet_lite0`."""
    input_size: Pixels = 299
    """Images are resized to this side first; Inception itself always resizes to 299."""
    batch_size: BatchSize = 64
    reference: Text | None = None
    """Path or URL of statistics of ADM's evaluator, such as ``VIRTUAL_imagenet256_labeled.npz``, for `fid_reference`
    and `sfid`; null = none."""

    @model_validator(mode="after")
    def _reference_is_of_inception(self) -> FeaturesConfig:
        if self.reference is not None and self.network != "inception":
            raise ValueError("reference: holds statistics of Inception; set network to inception, or reference to null")
        return self

    @model_validator(mode="after")
    def _weights_match_network(self) -> FeaturesConfig:
        if self.network == "efficientnet_lite0" and self.weights is not None:
            raise ValueError("weights: 'efficientnet_lite0' has its own; set it to null")
        return self


class SelectConfig(Section):
    """Stage `select`: instance selection with one Gaussian per class (DeVries et al. 2020)."""

    keep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.3333
    """Fraction of the images of each class that is kept, the most likely ones."""
    keep_count: Count | None = None
    """Number of images of each class that is kept, instead of a fraction; smaller classes are kept as a whole."""
    covariance_regularizer: Positive = 1e-5
    """Added to the diagonal of the covariance."""


class DepthConfig(Section):
    """Stage `depth`: monocular depth of the selected images."""

    estimator: Literal[names("threedgp.depth.estimators")] = "leres"
    """Name of a module in ``threedgp/depth/estimators``."""
    weights: Text | None = None
    """Path, URL or hub id of the weights; null = the estimator's default."""
    batch_size: BatchSize = 16
    """Images per forward pass; some estimators always process one at a time (docs/depth.md)."""
    strength: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Size of the errors of `simulated` and `simulated_metric`: 0 = true depth, 1 = those of an off-the-shelf
    estimator."""
    clip_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    """Percentile that is clipped at both ends before min-max scaling; 0 is the published protocol."""
    seed: Seed = 0


class EmbedConfig(Section):
    """Stage `embed`: classifier features for distillation into the discriminator."""

    network: Name = "resnet50.ram_in1k"
    """`none`, `efficientnet_lite0` (weights in a package), or the name of a model of timm, CLIP's encoders included."""
    weights: Text | None = None
    """Path, URL or hub id of the weights of a timm model; null = its default weights."""
    input_size: Pixels = 224
    """Images are resized to this side first."""
    batch_size: BatchSize = 64

    @model_validator(mode="after")
    def _weights_match_network(self) -> EmbedConfig:
        if self.network == "inception":
            raise ValueError("network: 'inception' is not available for distillation; choose a model of timm")
        if self.network == "efficientnet_lite0" and self.weights is not None:
            raise ValueError(
                "weights: 'efficientnet_lite0' has its own; set it to null, or network to tf_efficientnet_lite0"
            )
        return self


class ShardsConfig(Section):
    """Stage `shards`: globally shuffled training shards."""

    rows_per_shard: ShardRows = 4096
    """Images per file."""
    row_group_rows: ShardRows = 32
    """Images that are read together."""
    seed: Seed = 0
    """Seed of the shuffle."""
