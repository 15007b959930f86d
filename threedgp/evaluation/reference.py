"""The real set of an evaluation: random subsets of it, their features, and the inputs that metrics get from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.config import Config
from threedgp.data.images import decode_images
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.evaluation.features import ExtractedFeatures, StoredFeatures, extract_features
from threedgp.evaluation.real_images import RealImages, draw_sets, take_rows
from threedgp.evaluation.streams import Stream
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, build_extractor
from threedgp.features.networks.vgg16 import Vgg16
from threedgp.features.statistics import STATISTICS, statistics_key
from threedgp.metrics._declaration import Metric
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import ProcessGroup

Inputs = Mapping[str, Callable[[], Any]]
"""Inputs of metrics by name, see ``evaluation.py``, computed when they are called."""
MIN_IMAGES = 8
"""Real images of an evaluation: each half must have a third nearest neighbor."""
MIN_SAMPLE = 4
"""Real images with features: each must have a third nearest neighbor."""
MAX_HALF = 16384
"""Images of each half of the real set that are compared as images, as in Progressive GAN."""


@dataclass(frozen=True)
class Folders:
    """Outputs of the stages before `evaluate`."""

    raw: Path
    prepared: Path
    features: Path


@dataclass(frozen=True)
class Networks:
    """Feature extractors by role; None where no metric needs one."""

    main: FeatureExtractor | None
    """Of section `features`."""
    neighbor: FeatureExtractor | None
    """Of `evaluate.neighbor_network`; may be the same object as `main`."""

    def name(self, role: str | None) -> str | None:
        """Name of the network in a role."""
        return getattr(self, role).name if role else None


def build_networks(config: Config, metrics: Iterable[Metric]) -> Networks:
    """The networks that the metrics need, on their device.

    Raises:
        UserError: weights are missing.
    """
    roles, settings, machine = {metric.role for metric in metrics}, config.features, config.machine
    device = choose_device(machine.device)
    separate = config.evaluate.neighbor_network == "vgg16"
    main = neighbor = None
    if "main" in roles or ("neighbor" in roles and not separate):
        main = build_extractor(
            settings.network,
            input_size=settings.input_size,
            weights=settings.weights,
            device=device,
            mirror=machine.mirror,
        )
    if "neighbor" in roles:
        neighbor = Vgg16(config.evaluate.neighbor_weights, device, machine.mirror) if separate else main
    return Networks(main, neighbor)


class Reference:
    """The real images of an evaluation.

    For metrics on images and depth the real set is divided into two random halves: one is the reference, the other is
    the control `other_half`, from which the controls `blurred` and `background` are made, so that no control shares an
    image with the reference. For metrics on features, `sample_rows` are the reference and `other_rows` the control.
    """

    def __init__(self, config: Config, folders: Folders, networks: Networks, cache: Path) -> None:
        """
        Args:
            config: of the run; sections `dataset`, `features`, `evaluate`, `machine`.
            folders: of the data.
            networks: from `build_networks`.
            cache: folder for features that serve every evaluation on the same images.

        Raises:
            UserError: there are too few images, or the statistics belong to other ones.
        """
        settings = config.evaluate
        self.config, self.networks, self.cache = config, networks, cache
        self.prepared, self.stored = ShardFolder(folders.prepared), ShardFolder(folders.features)
        num_rows, seed = self.prepared.manifest.rows, settings.seed
        if num_rows < MIN_IMAGES:
            raise UserError(
                f"{self.prepared.folder}: {num_rows} images are too few to compare with, at least {MIN_IMAGES} are "
                "needed; give dataset.path a folder with more."
            )
        if (networks.main or networks.neighbor) and settings.real_samples < MIN_SAMPLE:
            raise UserError(
                f"evaluate.real_samples: {settings.real_samples} are too few to compare with; at least {MIN_SAMPLE} "
                "are needed."
            )
        spare = num_rows // 2 if settings.controls else num_rows
        half = min(settings.samples, MAX_HALF, spare)
        reference, other = draw_sets(num_rows, half, half if settings.controls else 0, seed)
        sample = min(settings.real_samples, spare)
        rest = min(settings.samples, num_rows - sample) if settings.controls else 0
        self.sample_rows, self.other_rows = draw_sets(num_rows, sample, rest, seed)
        self.source = open_source(config.dataset, folders.raw)
        self.half = self._images(reference)
        self.other_half = self._images(other) if settings.controls else None
        if networks.main:
            key = statistics_key(self.prepared, networks.main.identity)
            self.statistics = Moments.load(folders.features / STATISTICS, key)

    @cached_property
    def has_truth(self) -> bool:
        """Whether true cameras and depth are known."""
        return self.half.has_truth()

    @property
    def class_names(self) -> list[str]:
        """Names by label."""
        return self.prepared.meta["class_names"]

    def inputs(self) -> Inputs:
        """Inputs that are the same for every measured set."""
        sample = self.sample_rows
        inputs: dict[str, Callable[[], Any]] = {
            "real_images": self.half.images,
            "real_labels": partial(self.labels, sample),
            "class_names": lambda: self.class_names,
            "seed": lambda: self.config.evaluate.seed,
            "device": lambda: choose_device(self.config.machine.device),
        }
        if self.networks.main:
            inputs["real_moments"] = lambda: self.statistics
            inputs["real_features"] = lambda: self.stored_features(sample).column("pooled")
        if self.networks.neighbor:
            inputs["real_neighbor_features"] = lambda: self.neighbor_features(sample).column("pooled")
        if self.has_truth:
            half = self.half
            inputs |= {"real_depth": half.depth, "real_normals": half.normals, "real_cameras": half.cameras}
        return inputs

    def other_half_inputs(self) -> Inputs:
        """Inputs of the control `other_half`."""
        rows, other = self.other_rows, self.other_half
        inputs: dict[str, Callable[[], Any]] = {"images": other.images, "labels": partial(self.labels, rows)}
        if self.networks.main:
            remaining = np.delete(np.arange(self.prepared.manifest.rows), rows)
            inputs |= {
                "features": lambda: self.stored_features(rows).column("pooled"),
                "moments": lambda: self.stored_features(rows).moments(),
                "real_moments": lambda: self.stored_features(remaining).moments(),  # which share no image with it
            }
        if self.networks.neighbor:
            inputs["neighbor_features"] = lambda: self.neighbor_features(rows).column("pooled")
        if self.has_truth:
            inputs |= {"depth": other.depth, "normals": other.normals}
        return inputs

    def _images(self, rows: np.ndarray) -> RealImages:
        return RealImages(self.prepared, self.source, rows)

    def training_rows(self, selected: Path) -> np.ndarray:
        """Rows of the images that stage `select` kept in the folder `selected`, ascending."""
        ids = ShardFolder(selected).column("id").combine_chunks()
        return np.flatnonzero(pc.is_in(self.prepared.column("id"), value_set=ids).to_numpy(zero_copy_only=False))

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Labels of some images."""
        return pa.concat_tables(take_rows(self.prepared, rows, ["label"]))["label"].to_numpy()

    def stored_features(self, rows: np.ndarray) -> StoredFeatures:
        """Features of some images by the main network."""
        return StoredFeatures(self.stored, rows)

    def neighbor_features(self, rows: np.ndarray) -> ExtractedFeatures | StoredFeatures:
        """Features of some images by the neighbor network, after `extract_neighbor_features`."""
        if self.networks.neighbor is self.networks.main:
            return self.stored_features(rows)
        return ExtractedFeatures(self._images(rows).images(), self._neighbor_folder(rows))

    def extract_neighbor_features(self, group: ProcessGroup) -> None:
        """Compute features by the neighbor network that no other stage has stored, as one of several processes."""
        network = self.networks.neighbor
        if network is None or network is self.networks.main:
            return
        for rows in (self.sample_rows, self.other_rows):
            if len(rows):
                self.extract(network, self._images(rows).images(), self._neighbor_folder(rows), "real images", group)

    def _neighbor_folder(self, rows: np.ndarray) -> Path:
        content = f"{statistics_key(self.prepared, self.networks.neighbor.identity)} {rows.tolist()}"
        return self.cache / hashlib.sha256(content.encode()).hexdigest()[:16]

    def extract(self, network: FeatureExtractor, images: Stream, folder: Path, label: str, group: ProcessGroup) -> None:
        """Compute features of a set of images, as one of several processes."""
        workers = self.config.machine.workers if network.device.type == "cpu" else 1
        label, size = f"evaluate: {network.name}, {label}", self.config.features.batch_size
        extract_features(images, network, batch_size=size, folder=folder, label=label, workers=workers, group=group)


class TrainingImages:
    """The training set as the main network sees it, see `threedgp.metrics.neighbors.TrainingSet`."""

    def __init__(self, reference: Reference, rows: np.ndarray) -> None:
        self._prepared, self._rows = reference.prepared, rows
        self.batches = reference.stored_features(rows).batches

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Images of rows `[N, k]` of the training set, uint8 `[N, k, 3, R, R]`."""
        unique, place = np.unique(self._rows[rows], return_inverse=True)
        tables = take_rows(self._prepared, unique, ["image"])
        images = np.concatenate([decode_images(table["image"]) for table in tables])
        return images.transpose(0, 3, 1, 2)[place.reshape(rows.shape)]
