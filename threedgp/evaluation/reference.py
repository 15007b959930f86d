"""The real set of an evaluation: random subsets of it, their features, and the inputs that metrics get from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.config import Config
from threedgp.config.fields import MIN_IMAGES
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.evaluation.features import extract_features, extracted, moments
from threedgp.evaluation.real_images import RealImages, draw_sets
from threedgp.evaluation.streams import Stream, stored, stored_images
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, build_extractor, configured_extractor
from threedgp.features.statistics import STATISTICS, read_published, read_vectors, statistics_key
from threedgp.fetch.weights import find_weights
from threedgp.metrics._declaration import Metric
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import ProcessGroup

Inputs = Mapping[str, Callable[[], Any]]
"""Inputs of metrics by name, see ``evaluation.py``, computed when they are called."""
MAX_HALF = 16384
"""Images of each half of the real set that are compared as images, as in Progressive GAN."""


Networks = Mapping[str, FeatureExtractor]
"""By role: `main` is that of section `features`, `neighbor` that of `evaluate.neighbor_network`, maybe the same one."""


def build_networks(config: Config, metrics: Iterable[Metric]) -> Networks:
    """The networks that the metrics need, on their device. Raises UserError if weights are missing."""
    roles, settings = {metric.role for metric in metrics}, config.evaluate
    device, mirror = choose_device(config.machine.device), config.machine.mirror
    separate = settings.neighbor_network != "features"
    networks = {}
    if "main" in roles or ("neighbor" in roles and not separate):
        networks["main"] = configured_extractor(config.features, device, mirror)
    if "neighbor" in roles and separate:
        name, size, weights = settings.neighbor_network, config.features.input_size, settings.neighbor_weights
        networks["neighbor"] = build_extractor(name, input_size=size, weights=weights, device=device, mirror=mirror)
    elif "neighbor" in roles:
        networks["neighbor"] = networks["main"]
    return networks


class Reference:
    """The real images of an evaluation.

    For metrics on images and depth the real set is divided into two random halves: one is the reference, the other is
    the control `other_half`, from which the controls `blurred` and `background` are made, so that no control shares an
    image with the reference. For metrics on features, `sample_rows` are the reference and `other_rows` the control.
    """

    def __init__(
        self,
        config: Config,
        networks: Networks,
        *,
        raw: Path,
        prepared: Path,
        features: Path,
        cache: Path,
        samples: int | None = None,
    ) -> None:
        """
        Args:
            networks: from `build_networks`.
            raw, prepared, features: outputs of the stages before.
            cache: folder for features that serve every evaluation on the same images.
            samples: number of compared samples of another system, which have no controls; None = the model is compared.

        Raises:
            UserError: there are too few images, or the statistics belong to other ones.
        """
        settings = config.evaluate
        self.config, self.networks, self.cache = config, networks, cache
        self.prepared, self.stored = ShardFolder(prepared), ShardFolder(features)
        num_rows, seed = self.prepared.manifest.rows, settings.seed
        if num_rows < MIN_IMAGES:
            raise UserError(
                f"{self.prepared.folder}: {num_rows} images are too few to compare with, at least {MIN_IMAGES} are "
                "needed; give dataset.path a folder with more."
            )
        spare = num_rows // 2 if settings.controls else num_rows
        has_controls = settings.controls and samples is None
        half = min(samples or settings.samples, MAX_HALF, spare)
        reference, other = draw_sets(num_rows, half, half if has_controls else 0, seed)
        sample = min(settings.real_samples, spare)
        rest = min(settings.samples, num_rows - sample) if has_controls else 0
        self.sample_rows, self.other_rows = draw_sets(num_rows, sample, rest, seed)
        self.source = open_source(config.dataset, raw)
        self.half = RealImages(self.prepared, self.source, reference)
        self.other_half = RealImages(self.prepared, self.source, other) if has_controls else None
        if "main" in networks:
            key = statistics_key(self.prepared, networks["main"].identity)
            self.statistics = Moments.load(features / STATISTICS, key)
        self.published: tuple[Moments, Moments] | None = None
        if config.features.reference:
            mirror = config.machine.mirror
            file = find_weights(config.features.reference, key="features.reference", mirror=mirror)
            self.published = read_published(file)

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
        if "main" in self.networks:
            inputs["real_moments"] = lambda: self.statistics
            inputs["real_features"] = self.features("main", sample).whole
        if self.published:
            pooled, spatial = self.published
            inputs |= {"reference_moments": lambda: pooled, "reference_spatial_moments": lambda: spatial}
        if "neighbor" in self.networks:
            inputs["real_neighbor_features"] = self.features("neighbor", sample).whole
        if self.has_truth:
            half = self.half
            inputs |= {"real_depth": half.depth, "real_normals": half.normals, "real_cameras": half.cameras}
            inputs["real_camera_labels"] = partial(self.labels, half.rows)
        return inputs

    def other_half_inputs(self) -> Inputs:
        """Inputs of the control `other_half`."""
        rows, other = self.other_rows, self.other_half
        inputs: dict[str, Callable[[], Any]] = {"images": other.images, "labels": partial(self.labels, rows)}
        if "main" in self.networks:
            features = self.features("main", rows)
            remaining = np.delete(np.arange(self.prepared.manifest.rows), rows)
            inputs |= {
                "features": features.whole,
                "moments": partial(moments, features),
                "real_moments": partial(moments, self.features("main", remaining)),  # which share no image with it
            }
        if "neighbor" in self.networks:
            inputs["neighbor_features"] = self.features("neighbor", rows).whole
        if self.has_truth:
            inputs |= {"depth": other.depth, "normals": other.normals}
        return inputs

    def training_rows(self, selected: Path) -> np.ndarray:
        """Rows of the images that stage `select` kept in the folder `selected`, ascending."""
        ids = ShardFolder(selected).column("id").combine_chunks()
        return np.flatnonzero(pc.is_in(self.prepared.column("id"), value_set=ids).to_numpy(zero_copy_only=False))

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Labels of some images."""
        return stored(self.prepared, rows, "label", pa.ChunkedArray.to_numpy).whole()

    def training_inputs(self, rows: np.ndarray) -> Inputs:
        """Inputs of the training set, which consists of the given rows."""

        def images(indices: np.ndarray) -> np.ndarray:
            unique, place = np.unique(rows[indices], return_inverse=True)
            return stored_images(self.prepared, unique).whole()[place.reshape(indices.shape)]

        return {"training_features": self.features("main", rows).whole, "training_images": lambda: images}

    def features(self, role: str, rows: np.ndarray) -> Stream:
        """Features `[n, D]` of some images, by the neighbor network after `extract_neighbor_features`."""
        if self.networks[role] is self.networks.get("main"):
            return stored(self.stored, rows, "feature", read_vectors)
        return extracted(stored_images(self.prepared, rows), self._neighbor_folder(rows))

    def extract_neighbor_features(self, group: ProcessGroup) -> None:
        """Compute features by the neighbor network that no other stage has stored, as one of several processes."""
        network = self.networks.get("neighbor")
        if network in (None, self.networks.get("main")):
            return
        for rows in (self.sample_rows, self.other_rows):
            if len(rows):
                images = stored_images(self.prepared, rows)
                self.extract(network, images, self._neighbor_folder(rows), "real images", group)

    def _neighbor_folder(self, rows: np.ndarray) -> Path:
        content = f"{statistics_key(self.prepared, self.networks['neighbor'].identity)} {rows.tolist()}"
        return self.cache / hashlib.sha256(content.encode()).hexdigest()[:16]

    def extract(self, network: FeatureExtractor, images: Stream, folder: Path, label: str, group: ProcessGroup) -> None:
        """Compute features of a set of images, as one of several processes."""
        workers = self.config.machine.workers if network.device.type == "cpu" else 1
        label, size = f"evaluate: {network.name}, {label}", self.config.features.batch_size
        extract_features(images, network, batch_size=size, folder=folder, label=label, workers=workers, group=group)
