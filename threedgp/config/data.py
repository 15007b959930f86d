"""Sections of ``params.yaml`` that say what the data are: `dataset` and the stages up to `shards`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from threedgp.config.choices import names
from threedgp.config.fields import NonNegative, PositiveInt, PowerOfTwo, Section, Seed


class DatasetConfig(Section):
    """Which pictures, and how large."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "imagenet"
    """Name of the folder under `data/`."""
    source: Literal[names("threedgp.data.sources")] = "imagenet"
    path: str | None = None
    """Folder or archive that holds the pictures; null where the source makes or fetches them (`imagenet`: from the
    Hugging Face hub, with a token)."""
    subset: str | None = None
    """Which part of the source: `dogs` or `elephants` of `sdip`, `horse` of `lsun`."""
    resolution: Annotated[PowerOfTwo, Field(ge=8)] = 256
    """Side of the pictures in pixels; metrics look at patches of 7."""


class DownloadConfig(Section):
    """Stage `download`. Local pictures are read where they lie and need none of these."""

    count: PositiveInt = 4096
    """Procedural pictures."""
    resolution: PowerOfTwo = 64
    """Side of the procedural pictures."""
    seed: Seed = 0
    """Of the procedural world."""


class PrepareConfig(Section):
    """Stage `prepare`: square crops at `dataset.resolution`."""

    encoding: Literal["webp", "png", "jpeg"] = "webp"
    """WebP and PNG are lossless, and PNG takes a third more; JPEG (quality 95) takes less than half of WebP."""
    shard_rows: PositiveInt = 4096


class FeaturesConfig(Section):
    """Stage `features`: what selection and the Frechet distance are computed on."""

    network: Literal["inception", "efficientnet_lite0"] = "inception"
    weights: str | None = None
    """Path or URL of the Inception weights, null = torch-fidelity's; EfficientNet-Lite0 comes with its package."""
    input_size: PositiveInt = 299
    """Side to which pictures are resized before the network (Inception: always 299, inside the network)."""
    batch_size: PositiveInt = 64


class SelectConfig(Section):
    """Stage `select`: instance selection (one Gaussian for each class)."""

    keep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.3333
    keep_count: PositiveInt | None = None
    """So many pictures of each class (a smaller one is kept whole), whatever `keep_fraction` says."""
    covariance_regularizer: Annotated[float, Field(gt=0)] = 1e-5


class DepthConfig(Section):
    """Stage `depth`: monocular depth of the selected pictures."""

    estimator: Literal[names("threedgp.depth.estimators")] = "leres"
    weights: str | None = None
    """Local file or folder, URL or hub id of the estimator's weights; null = the ones it is known for."""
    batch_size: PositiveInt = 16
    """Pictures that an estimator sees at once; some take one at a time (docs/depth.md)."""
    strength: NonNegative = 1.0
    """How inaccurate `simulated` makes the true depth: 0 = the truth, 1 = like an off-the-shelf estimator."""
    clip_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    """Percentile cut at both ends before the min-max scaling; 0 is the published protocol."""
    seed: Seed = 0


class EmbedConfig(Section):
    """Stage `embed`: classifier features that the discriminator learns to predict."""

    network: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "resnet50.ram_in1k"
    """`none`, `efficientnet_lite0` (its package ships the weights), or any model of timm, CLIP's towers included."""
    weights: str | None = None
    """Local path, URL or hub id of a timm model's weights; null = the ones that timm names."""
    input_size: PositiveInt = 224
    batch_size: PositiveInt = 64

    @model_validator(mode="after")
    def _weights_match_network(self) -> EmbedConfig:
        if self.network == "inception":
            raise ValueError("network: 'inception' measures and is not distilled; choose a model of timm")
        if self.network == "efficientnet_lite0" and self.weights is not None:
            raise ValueError(
                "weights: efficientnet_lite0 comes with its own; set it to null, or network to tf_efficientnet_lite0"
            )
        return self


class ShardsConfig(Section):
    """Stage `shards`: globally shuffled training shards."""

    rows_per_shard: PositiveInt = 4096
    row_group_rows: PositiveInt = 32
    seed: Seed = 0
