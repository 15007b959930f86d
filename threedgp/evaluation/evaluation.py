"""A model under evaluation: its scenes, the sets that are measured beside them, and the inputs that metrics get.

Scenes and features are files in a folder that only a run with the same settings, code and data uses, so that a stopped
evaluation resumes and every process can read what the others have written.

Inputs that a metric can name in `needs`:

| input | of the measured set |
|---|---|
| `images` | batches uint8 `[n, 3, R, R]` |
| `depth`, `normals` | batches float32 `[n, 1, R, R]` along the ray, and `[n, 3, R, R]` in camera space |
| `moments`, `features`, `logits` | by the network of `features.network`: `Moments`, `[N, D]`, `[N, K]` |
| `spatial_moments` | `Moments` of the spatial features of Inception |
| `neighbor_features` | by the network of `evaluate.neighbor_network`, `[N, D']` |
| `labels` | int `[N]` |
| `cameras`, `prior_cameras` | float32 `[N, 8]`, after and before the camera generator |
| `frontal_depth`, `nfs_depth` | batches `[n, R, R]` of frontal views without low densities: ours, and as published |
| `view_pairs`, `outer_view_pairs` | batches of the arguments of `threedgp.metrics.views.view_agreement` |
| `axis_depth`, `estimated_depth` | batches `[n, R, R]` along the optical axis: rendered, and by `depth.estimator` |

| input | of the real set, the training set and the run |
|---|---|
| `real_images`, `real_depth`, `real_normals`, `real_cameras` | one half of the real set, and its ground truth |
| `real_camera_labels` | int `[N]`, of `real_cameras` |
| `real_moments` | of all real images |
| `reference_moments`, `reference_spatial_moments` | of another real set, from the file `features.reference` |
| `real_features`, `real_neighbor_features`, `real_labels` | of `evaluate.real_samples` real images |
| `training_features` | of the training set, `[N, D]` |
| `training_images` | a function from rows `[N, k]` of the training set to images uint8 `[N, k, 3, R, R]` |
| `class_names` | by label |
| `camera_ranges` | bounds of the prior by camera parameter |
| `depth_range` | near and far ends of the rays, in scene units |
| `distilled` | whether training learned from the network of `features` |
| `seed`, `device`, `label` | seed of random choices, device of large products, label of a progress bar |

A metric is skipped where the data set, the model or the samples lack one of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from threedgp.camera.geometry import PRIOR_FIELDS
from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation.features import extracted, moments
from threedgp.evaluation.real_images import blurred
from threedgp.evaluation.reference import Inputs, Reference
from threedgp.evaluation.scenes import StoredScenes, estimated_depth, frontal_depth, generate, nfs_depth, view_pairs
from threedgp.evaluation.streams import Stream
from threedgp.features.network import FeatureExtractor, same_network
from threedgp.metrics._declaration import BACKGROUND, BLURRED, FLAT, MODEL, OTHER_HALF, UNTRAINED, Metric
from threedgp.models.generator import Generator
from threedgp.models.loading import load_model, load_untrained
from threedgp.runtime.device import choose_device
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

DENSITY_INPUTS = {
    "depth", "normals", "cameras", "prior_cameras", "frontal_depth", "nfs_depth", "view_pairs",
    "outer_view_pairs", "axis_depth"
}  # fmt: skip
"""Inputs that only scenes with a density have."""
MAX_VIEW_PAIRS = 128
"""Scenes of which two views are compared."""


def feature_inputs(
    images: Stream, networks: Mapping[str, FeatureExtractor], folder: Callable[[FeatureExtractor], Path]
) -> Inputs:
    """Inputs from features that were extracted to `folder(network)`, by networks in their roles."""
    inputs: dict[str, Callable[[], Any]] = {}
    if "main" in networks:
        main = folder(networks["main"])
        features = extracted(images, main)
        inputs = {"features": features.whole, "moments": partial(moments, features)}
        inputs["logits"] = extracted(images, main, "logits").whole
        inputs["spatial_moments"] = lambda: moments(extracted(images, main, "spatial"))
    if "neighbor" in networks:
        inputs["neighbor_features"] = extracted(images, folder(networks["neighbor"])).whole
    return inputs


class Evaluation:
    """A model under evaluation."""

    def __init__(self, reference: Reference, metrics: Mapping[str, Metric], model: Path, scratch: Path) -> None:
        """`scratch` is the folder for scenes and features; it outlives the process."""
        self.reference, self.metrics, self.model, self.scratch = reference, metrics, model, scratch
        self.config, self.settings = reference.config, reference.config.evaluate
        self.device = choose_device(self.config.machine.device)
        names = [MODEL, UNTRAINED] if self.settings.controls else [MODEL]
        self.scenes = {name: StoredScenes(scratch / name, self.settings.samples) for name in names}

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The model and, with controls, the untrained model."""
        load = {MODEL: load_model, UNTRAINED: load_untrained}
        return {name: load[name](self.model, self.device) for name in self.scenes}

    @property
    def has_density(self) -> bool:
        """Whether the model's scenes have a density, and with it depth and cameras."""
        return self.generators[MODEL].has_density

    @property
    def distilled(self) -> str | None:
        """The network of `features` if training learned from it, else None."""
        main, config = self.reference.networks.get("main"), self.config
        if main is None or config.train.distillation.loss == "none":
            return None
        return main.name if same_network(config.embed.network, main.name) else None

    def without_density(self) -> list[str]:
        """Names of the metrics that are left out because the model's scenes have no density."""
        if self.has_density:
            return []
        return [name for name, metric in self.metrics.items() if DENSITY_INPUTS & set(metric.needs)]

    @cached_property
    def images(self) -> dict[str, Stream]:
        """Images of every set."""
        sets = {name: scenes.column("image") for name, scenes in self.scenes.items()}
        if other := self.reference.other_half:
            sets |= {OTHER_HALF: other.images(), BLURRED: other.images().map(blurred)}
            if hasattr(other.source, "read_backgrounds"):
                sets[BACKGROUND] = other.backgrounds(self.scratch / "backgrounds")
        return sets

    def make(self, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Generate all scenes and extract all features, as one of several processes. What an earlier run finished is
        kept. The results are complete once every process has returned."""
        settings, machine = self.settings, self.config.machine
        for name, generator in self.generators.items():
            generate(
                generator,
                settings.samples,
                settings.seed,
                self.config.dataset.resolution,
                batch_size=settings.batch_size,
                folder=self.scratch / name,
                label=f"evaluate: {name}",
                workers=machine.workers if self.device.type == "cpu" else 1,
                group=group,
            )
        compared = any(BACKGROUND in metric.controls for metric in self.metrics.values())
        if compared and BACKGROUND in self.images and group.is_main:
            self.reference.other_half.render_backgrounds(self.scratch / "backgrounds", machine.workers)
        group.wait()  # a network may need scenes of another process, and all need the backgrounds
        for name, images in self.images.items():
            for network in dict.fromkeys(self._networks(name).values()):
                self.reference.extract(network, images, self._folder(name, network), name, group)
        self.reference.extract_neighbor_features(group)

    def _networks(self, name: str) -> dict[str, FeatureExtractor]:
        """By role, the networks whose features of a set have to be extracted; those of real images are elsewhere."""
        measured = [metric for metric in self.metrics.values() if name == MODEL or name in metric.controls]
        roles = {metric.role for metric in measured if name != OTHER_HALF}
        return {role: network for role, network in self.reference.networks.items() if role in roles}

    def _folder(self, name: str, network: FeatureExtractor) -> Path:
        return self.scratch / f"features-{name}-{network.name}"

    def sets(self, estimator: DepthEstimator | None) -> dict[str, Inputs]:
        """Inputs of every measured set, after `make`; `estimator` is one that looks at pixels, or None."""
        sets = {
            name: {
                "images": lambda images=images: images,
                **feature_inputs(images, self._networks(name), partial(self._folder, name)),
            }
            for name, images in self.images.items()
        }
        for name, scenes in self.scenes.items():
            sets[name] |= self._scene_inputs(name, scenes, estimator)
        if self.reference.other_half:
            sets[OTHER_HALF] = self.reference.other_half_inputs()
            count, resolution = len(self.reference.other_half.rows), self.config.dataset.resolution
            pixel = np.float32([1, 0, 0, 1])[:, None, None]  # depth and normal of a plane that faces the camera
            plane = np.broadcast_to(pixel, (count, 4, resolution, resolution))
            sets[FLAT] = {
                "depth": lambda: Stream(count, [lambda: plane[:, :1]]),
                "normals": lambda: Stream(count, [lambda: plane[:, 1:]]),
            }
        return sets

    def _scene_inputs(self, name: str, scenes: StoredScenes, estimator: DepthEstimator | None) -> Inputs:
        """Inputs that only generated scenes have."""
        settings, generator = self.settings, self.generators[name]
        rendering = settings.seed, self.config.dataset.resolution, settings.batch_size
        num_views = min(settings.nfs_samples, MAX_VIEW_PAIRS)
        inputs: dict[str, Callable[[], Any]] = {}
        if generator.num_classes:
            inputs["labels"] = partial(scenes.whole, "label")
        if not self.has_density:
            return inputs
        inputs |= {
            "depth": partial(scenes.column, "depth"),
            "normals": scenes.normals,
            "cameras": partial(scenes.whole, "camera"),
            "prior_cameras": partial(scenes.whole, "prior"),
            "frontal_depth": partial(frontal_depth, generator, settings.nfs_samples, *rendering),
            "nfs_depth": partial(nfs_depth, generator, settings.nfs_samples, *rendering[:2]),
            "view_pairs": partial(view_pairs, generator, num_views, *rendering),
            "outer_view_pairs": partial(view_pairs, generator, num_views, *rendering, outer=True),
        }
        if estimator:
            count, label = settings.depth_samples, f"evaluate: depth of {name}"
            inputs["axis_depth"] = partial(scenes.axis_depth, count)
            inputs["estimated_depth"] = partial(estimated_depth, scenes.column("image"), count, estimator, label)
        return inputs

    def run_inputs(self, training_rows: np.ndarray) -> Inputs:
        """Inputs of the real set, of the training set (rows of the prepared images) and of the run."""
        camera = self.generators[MODEL].camera_config
        inputs = {
            **self.reference.inputs(),
            "camera_ranges": lambda: {name: getattr(camera, name) for name in PRIOR_FIELDS},
            "depth_range": lambda: (camera.ray_start, camera.ray_end),
        }
        if "main" in self.reference.networks:
            inputs["distilled"] = lambda: self.distilled is not None
            inputs |= self.reference.training_inputs(training_rows)
        return inputs
