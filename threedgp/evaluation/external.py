"""Samples of any system against the prepared real set, by the same code and the same preparation as the model's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation.evaluation import feature_inputs
from threedgp.evaluation.measuring import Row, measure
from threedgp.evaluation.reference import Reference
from threedgp.evaluation.sample_files import Samples
from threedgp.evaluation.scenes import estimated_depth
from threedgp.metrics._declaration import MODEL, Metric
from threedgp.runtime.commit import git_commit
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import SINGLE_PROCESS

MIN_SAMPLES = 10
"""The class score divides the samples into ten parts."""


def listing_key(images: Path, depth: Path | None) -> str:
    """Hash of names, sizes and modification times of the samples' files; reading all of them would take long."""
    files = [
        file for place in (images, depth) if place for file in sorted([place, *place.rglob("*")]) if file.is_file()
    ]
    listing = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(listing).encode(errors="surrogateescape")).hexdigest()[:16]


def about(reference: Reference, images: Path, depth: Path | None) -> dict[str, Any]:
    """Description of the compared sets, for the file of the numbers."""
    resolution = reference.prepared.meta["resolution"]
    return {
        "images": str(images),
        "depth": str(depth) if depth else None,
        "preparation": f"center crop, Lanczos to {resolution}x{resolution}, as the real images",
        "dataset": reference.config.dataset.name,
        "resolution": resolution,
        "real_images": reference.prepared.manifest.rows,
        "real_set": reference.prepared.manifest.content_hash,
        "commit": git_commit(),
    }


def score(
    metrics: Mapping[str, Metric],
    reference: Reference,
    samples: Samples,
    scratch: Path,
    *,
    depth_range: tuple[float, float],
    estimator: DepthEstimator | None = None,
) -> list[Row]:
    """Measure samples by every metric that needs no generator, cameras or training set.

    Features are written to `scratch`, so that a stopped run resumes. `depth_range` is that of the histograms of depth,
    in the unit of the maps. The estimator of depth must look at pixels; None = there is none. Raises UserError if there
    are too few samples, or they have classes that the real set does not have.
    """
    images, depth, labels = samples.images, samples.depth, samples.labels
    if len(images) < MIN_SAMPLES:
        raise UserError(f"--images: {len(images)} images are too few to compare; give at least {MIN_SAMPLES}.")
    inputs: dict[str, Callable[[], Any]] = {"images": lambda: images}
    if labels is not None:
        inputs["labels"] = lambda: labels
        num_classes = len(reference.class_names)
        unknown = [label for label in labels.tolist() if not 0 <= label < num_classes]
        if unknown and any("labels" in metric.needs for metric in metrics.values()):
            # Labels that count from 1, for example, would compare every class with another one.
            raise UserError(
                f"--images, --labels: there is no class {unknown[0]}, the real set has 0 to {num_classes - 1}; correct "
                "the labels, or remove the metrics by class from evaluate.metrics."
            )
    for network in dict.fromkeys(reference.networks.values()):
        reference.extract(network, images, scratch / network.name, "samples", SINGLE_PROCESS)
    reference.extract_neighbor_features(SINGLE_PROCESS)
    inputs |= feature_inputs(images, reference.networks, lambda network: scratch / network.name)
    if depth is not None:
        inputs["depth"] = lambda: depth
        inputs["frontal_depth"] = inputs["nfs_depth"] = lambda: (maps[:, 0] for maps in depth)
        if estimator:
            count = reference.config.evaluate.depth_samples
            inputs["axis_depth"] = lambda: (maps[:, 0] for maps in depth.first(count))
            inputs["estimated_depth"] = partial(estimated_depth, images, count, estimator, "evaluate: depth of samples")
    shared = {**reference.inputs(), "depth_range": lambda: depth_range, "distilled": lambda: None}
    return measure(metrics, {MODEL: inputs}, shared, reference.networks, scratch / "exhibits")
