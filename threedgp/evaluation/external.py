"""Samples of any system against the prepared real set, by the same code and the same preparation as the model's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation.contests import MODEL, Contest, swd_metrics
from threedgp.evaluation.feature_metrics import FeatureSet, frechet, pairwise
from threedgp.evaluation.picture_folder import Samples
from threedgp.evaluation.real_side import RealSide
from threedgp.metrics.depth_agreement import aligned_error, estimated_depth, mean_error
from threedgp.metrics.nfs import non_flatness
from threedgp.metrics.shape_matching import match_shapes, unit_maps
from threedgp.metrics.streams import Stream
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import ALONE

LEAST = 10
"""Pictures that the metrics need; the score has as many parts."""


def listing_key(images: Path, depth: Path | None) -> str:
    """Changes when a file of the samples does: by names, sizes and times, for there may be very many."""
    files = [
        file for place in (images, depth) if place for file in sorted([place, *place.rglob("*")]) if file.is_file()
    ]
    listing = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]


def about(real: RealSide, images: Path, depth: Path | None) -> dict[str, Any]:
    """What was compared with what, for the file of the numbers."""
    resolution = real.prepared.meta["resolution"]
    return {
        "images": str(images),
        "depth": str(depth) if depth else None,
        "preparation": f"centre crop, Lanczos to {resolution}x{resolution}, as the real pictures",
        "dataset": real.config.dataset.name,
        "real_pictures": real.prepared.manifest.rows,
        "real_set": real.prepared.manifest.content_hash,
    }


def score(
    real: RealSide,
    samples: Samples,
    scratch: Path,
    *,
    bounds: tuple[float, float],
    estimator: DepthEstimator | None = None,
) -> dict[str, Any]:
    """Every metric of `evaluate.metrics` that the samples allow, by its usual name.

    Those that need a generator (views, cameras, neighbors among training pictures) are left out.

    Args:
        real: what they are compared with.
        samples: at the resolution of the real set.
        scratch: for features; a stopped run goes on.
        bounds: nearest and farthest depth for the non-flatness score, in the unit of the maps.
        estimator: of depth, that looks at pixels; None = there is none.

    Raises:
        UserError: there are too few samples, or they have classes that the real set does not have.
    """
    count = len(samples.pictures)
    if count < LEAST:
        raise UserError(f"--images: {count} pictures are too few to compare; give at least {LEAST}.")
    settings, values = real.config.evaluate, {"samples": count}
    wanted = set(settings.metrics)
    if "class_diversity" in wanted and samples.labels is not None:
        _require_classes(samples.labels, len(real.class_names))
    if "swd" in wanted:
        values |= _swd("swd", real.reference.pictures(), samples.pictures, settings.seed)
    networks = [network for network in dict.fromkeys((real.networks.main, real.networks.neighbor)) if network]
    seen = {
        network: real.extract(network, samples.pictures, scratch / network.name, "samples", ALONE)
        for network in networks
    }
    if networks:
        if real.networks.neighbor:
            real.neighbor_features(real.sample_rows, ALONE)
        some = FeatureSet(seen.get(real.networks.main), seen.get(real.networks.neighbor), samples.labels)
        reference, seed = real.feature_reference, settings.seed
        if "frechet" in wanted:
            values |= frechet(some, reference, extrapolate=settings.extrapolate, seed=seed)
        device = choose_device(real.config.machine.device)
        values |= pairwise(wanted, some, reference, seed=seed, device=device)[0]
    if samples.depth:
        values |= _depth(real, samples, samples.depth, bounds, estimator)
    return values


def _require_classes(labels: np.ndarray, count: int) -> None:
    """Labels that count from 1, say, would compare every class with another one."""
    if unknown := [label for label in labels.tolist() if not 0 <= label < count]:
        raise UserError(
            f"--images, --labels: there is no class {unknown[0]}, the real set has 0 to {count - 1}; "
            "mend the labels, or take class_diversity out of evaluate.metrics."
        )


def _swd(metric: str, reference: Stream, some: Stream, seed: int) -> dict[str, float]:
    return swd_metrics(metric, Contest(reference, {MODEL: some}, min(len(reference), len(some))), seed)


def _depth(
    real: RealSide, samples: Samples, depth: Stream, bounds: tuple[float, float], estimator: DepthEstimator | None
) -> dict[str, float]:
    settings, values = real.config.evaluate, {}
    wanted = set(settings.metrics)
    if "nfs" in wanted:
        values["nfs"] = float(np.concatenate([non_flatness(maps, *bounds) for maps in depth]).mean())
    if "depth" in wanted and real.reference.knows_truth():
        truth = real.reference.true_depth()
        values |= _swd("depth_swd", truth, depth, settings.seed)
        count = min(len(truth), len(depth))
        found = match_shapes(unit_maps(depth, count), unit_maps(truth, count))
        values |= {"shape_distance": found.distance, "shape_coverage": found.coverage}
    if "depth_consistency" in wanted and estimator:
        errors, left = [], settings.depth_samples
        for pictures, maps in zip(samples.pictures, depth, strict=True):
            if left <= 0:
                break
            seen = estimated_depth(pictures[:left], estimator)
            errors.append(aligned_error(maps[: len(seen), 0], seen))
            left -= len(seen)
        if (error := mean_error(errors)) is not None:
            values["depth_consistency"] = error
    return values
