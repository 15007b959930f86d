"""What an evaluation is made of: sets of real and generated pictures, and features of them, which many processes make.

Everything is kept in files of a folder that only a run with the same settings, code and data finds again, so that a
stopped evaluation goes on, and every process can read what the others made.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from threedgp.evaluation.contests import MODEL, OTHER_HALF, UNTRAINED, Contest, picture_contest
from threedgp.evaluation.fakes import Fakes, generate
from threedgp.evaluation.feature_metrics import FeatureSet
from threedgp.evaluation.real_side import RealSide
from threedgp.evaluation.set_features import SetFeatures
from threedgp.features.extractor import FeatureExtractor
from threedgp.models.generator import Generator
from threedgp.models.loading import load_model, load_untrained
from threedgp.runtime.device import choose_device
from threedgp.runtime.processes import ALONE, Team


class Evaluation:
    """A model under evaluation."""

    def __init__(self, real: RealSide, model: Path, scratch: Path) -> None:
        """
        Args:
            real: what it is compared with.
            model: its folder.
            scratch: for scenes and features; outlives the process.
        """
        self.real, self.model, self.scratch = real, model, scratch
        self.settings, self.resolution = real.config.evaluate, real.config.dataset.resolution
        self.device = choose_device(real.config.machine.device)
        names = [MODEL, UNTRAINED] if self.settings.controls else [MODEL]
        self.scenes = {name: Fakes(scratch / name, self.settings.samples) for name in names}

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The model, and where controls are wanted the untrained one."""
        load = {MODEL: load_model, UNTRAINED: load_untrained}
        return {name: load[name](self.model, self.device) for name in self.scenes}

    @cached_property
    def pictures(self) -> Contest:
        """All sets of pictures."""
        return picture_contest(self.real.reference, self.real.other, self.scenes, self.scratch)

    def make(self, team: Team = ALONE) -> None:
        """Generate all scenes and show all pictures to the networks, as one of several processes. What an earlier run
        finished is kept; results lie there once every process has returned."""
        settings, machine = self.settings, self.real.config.machine
        for name, generator in self.generators.items():
            generate(
                generator,
                settings.samples,
                settings.seed,
                self.resolution,
                batch_size=settings.batch_size,
                folder=self.scratch / name,
                label=f"evaluate: {name}",
                workers=machine.workers if self.device.type == "cpu" else 1,
                team=team,
            )
        team.wait()  # a network may look at scenes of another process
        for name, pictures in self.pictures.contestants.items():
            for network in self._networks_of(name):
                self.real.extract(network, pictures, self._folder(name, network), name, team)
        if self.real.networks.neighbor:
            for rows in (self.real.sample_rows, self.real.fresh_rows):
                if len(rows):
                    self.real.neighbor_features(rows, team)

    def _networks_of(self, name: str) -> list[FeatureExtractor]:
        """Those that look at a set. What they see in real pictures is stored already, or kept."""
        if name == OTHER_HALF:
            return []
        networks = self.real.networks
        both = [networks.main, networks.neighbor] if name in self.scenes else [networks.main]
        return [network for network in dict.fromkeys(both) if network]

    def _folder(self, name: str, network: FeatureExtractor) -> Path:
        return self.scratch / f"features-{name}-{network.name}"

    def features(self, name: str) -> FeatureSet:
        """What the networks see in a set, after `make`."""
        real = self.real
        if name == OTHER_HALF:
            neighborhood = real.neighbor_features(real.fresh_rows) if real.networks.neighbor else None
            return FeatureSet(real.stored_features(real.fresh_rows), neighborhood, real.labels(real.fresh_rows))
        pictures = self.pictures.contestants[name]
        seen = {network: SetFeatures.of(pictures, self._folder(name, network)) for network in self._networks_of(name)}
        return FeatureSet(seen.get(real.networks.main), seen.get(real.networks.neighbor), self._labels(name))

    def _labels(self, name: str) -> np.ndarray | None:
        """Of generated scenes; None where the model knows no classes."""
        if name not in self.scenes or not self.generators[name].num_classes:
            return None
        return self.scenes[name].whole("label")
