"""The real pictures of an evaluation: random sets of them, and what networks see in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.config import Config
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.evaluation.feature_metrics import FeatureReference
from threedgp.evaluation.reals import RealSet, draw_sets, require_pictures, take_rows
from threedgp.evaluation.set_features import SetFeatures, StoredFeatures, extract_features
from threedgp.features.extractor import FeatureExtractor
from threedgp.features.moments import Moments
from threedgp.features.registry import build_extractor
from threedgp.features.statistics import STATISTICS, statistics_key
from threedgp.features.vgg16 import Vgg16
from threedgp.metrics import swd
from threedgp.metrics.precision_recall import NEIGHBOURHOOD
from threedgp.metrics.streams import Stream
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import Team

NEED_FEATURES = {"frechet", "kernel", "inception_score", "neighbors"}
NEED_NEIGHBOURS = {"precision_recall", "class_diversity"}
NEED_SAMPLE = {"kernel", *NEED_NEIGHBOURS}
LEAST_SAMPLE = NEIGHBOURHOOD + 1
"""Real pictures without which none has its third neighbor, and a set no spread."""


@dataclass(frozen=True)
class Folders:
    """Where the stages that an evaluation rests on put their results."""

    raw: Path
    prepared: Path
    features: Path


@dataclass(frozen=True)
class Networks:
    """The two that look at pictures; None where no metric asks."""

    main: FeatureExtractor | None
    neighbor: FeatureExtractor | None
    """Of precision and recall; the first one, if the settings say so."""


def build_networks(config: Config) -> Networks:
    """The networks that the settings ask for, on their device.

    Raises:
        UserError: weights are missing.
    """
    wanted, settings, machine = set(config.evaluate.metrics), config.features, config.machine
    device = choose_device(machine.device)
    separate = config.evaluate.neighbor_network == "vgg16"
    main = neighbor = None
    if wanted & NEED_FEATURES or (wanted & NEED_NEIGHBOURS and not separate):
        main = build_extractor(
            settings.network,
            input_size=settings.input_size,
            weights=settings.weights,
            device=device,
            mirror=machine.mirror,
        )
    if wanted & NEED_NEIGHBOURS:
        neighbor = Vgg16(config.evaluate.neighbor_weights, device, machine.mirror) if separate else main
    return Networks(main, neighbor)


class RealSide:
    """The real pictures of an evaluation, and what networks see in them."""

    def __init__(self, config: Config, folders: Folders, networks: Networks, kept: Path) -> None:
        """
        Args:
            config: of the run; sections `dataset`, `features`, `evaluate`, `machine`.
            folders: of the data.
            networks: of `build_networks`.
            kept: folder for features that serve every evaluation on the same pictures.

        Raises:
            UserError: there are too few pictures, or the statistics belong to other ones.
        """
        settings = config.evaluate
        if NEED_SAMPLE & set(settings.metrics) and settings.real_samples < LEAST_SAMPLE:
            raise UserError(
                f"evaluate.real_samples: {settings.real_samples} are too few to compare with; take {LEAST_SAMPLE} at "
                "least."
            )
        self.config, self.networks, self.kept = config, networks, kept
        self.prepared, self.stored = ShardFolder(folders.prepared), ShardFolder(folders.features)
        require_pictures(self.prepared)
        rows, seed = self.prepared.manifest.rows, settings.seed
        spare = rows // 2 if settings.controls else rows
        count = min(settings.samples, swd.MOST_PICTURES, spare)
        halves = draw_sets(rows, count, count if settings.controls else 0, seed)
        sample = min(settings.real_samples, spare)
        fresh = min(settings.samples, rows - sample) if settings.controls else 0
        self.sample_rows, self.fresh_rows = draw_sets(rows, sample, fresh, seed)
        self.source = open_source(config.dataset, folders.raw)
        self._raw = folders.raw
        self.reference = self._set(halves[0])
        self.other = self._set(halves[1]) if settings.controls else None
        if networks.main:
            key = statistics_key(self.prepared, networks.main.identity)
            self.statistics = Moments.load(folders.features / STATISTICS, key)

    @property
    def class_names(self) -> list[str]:
        """By label."""
        return self.prepared.meta["class_names"]

    def _set(self, rows: np.ndarray) -> RealSet:
        return RealSet(self.prepared, self.source, self._raw, rows)

    def stored_features(self, rows: np.ndarray) -> StoredFeatures:
        """Features of some pictures by the main network."""
        return StoredFeatures(self.stored, rows)

    def training_rows(self, selected: Path) -> np.ndarray:
        """Rows of the pictures that stage `select` kept, ascending."""
        wanted = ShardFolder(selected).column("id").combine_chunks()
        return np.flatnonzero(pc.is_in(self.prepared.column("id"), value_set=wanted).to_numpy(zero_copy_only=False))

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Of some pictures."""
        return pa.concat_tables(take_rows(self.prepared, rows, ["label"]))["label"].to_numpy()

    def neighbor_features(self, rows: np.ndarray, team: Team | None = None) -> SetFeatures | StoredFeatures:
        """Features of some pictures for precision and recall: stored ones, or kept ones, which a `team` makes."""
        network = self.networks.neighbor
        if network is self.networks.main:
            return self.stored_features(rows)
        key = hashlib.sha256(f"{statistics_key(self.prepared, network.identity)} {rows.tolist()}".encode()).hexdigest()
        pictures, folder = self._set(rows).pictures(), self.kept / key[:16]
        if team is None:
            return SetFeatures.of(pictures, folder)
        return self.extract(network, pictures, folder, "real pictures", team)

    def extract(self, network: FeatureExtractor, pictures: Stream, folder: Path, label: str, team: Team) -> SetFeatures:
        """Show a set to a network."""
        workers = self.config.machine.workers if network.device.type == "cpu" else 1
        label, size = f"evaluate: {network.name}, {label}", self.config.features.batch_size
        return extract_features(
            pictures, network, batch_size=size, folder=folder, label=label, workers=workers, team=team
        )

    @cached_property
    def feature_reference(self) -> FeatureReference:
        """The real pictures for metrics on features."""
        main, neighbor = self.networks.main, self.networks.neighbor
        return FeatureReference(
            network=main.name if main else "",
            statistics=self.statistics if main else None,
            sample=self.stored_features(self.sample_rows).column("pooled") if main else None,
            neighborhood_network=neighbor.name if neighbor else "",
            neighborhood=self.neighbor_features(self.sample_rows).column("pooled") if neighbor else None,
            labels=self.labels(self.sample_rows),
        )
