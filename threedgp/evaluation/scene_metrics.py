"""Metrics of generated scenes that need no real pictures: relief, agreement of views, depth against an estimator."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import YAW
from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation.fakes import Fakes, frontal_depth
from threedgp.metrics.depth_agreement import aligned_error, axis_depth, estimated_depth, mean_error
from threedgp.metrics.nfs import non_flatness
from threedgp.metrics.streams import chunks
from threedgp.metrics.view_agreement import view_agreement
from threedgp.models.generator import Generator
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import progress

TURN = 0.2
"""Radians of yaw between two views that are compared, 11 degrees: near enough that most of one is seen in the other."""


def relief(generator: Generator, count: int, seed: int, resolution: int, batch_size: int) -> float:
    """Non-flatness score of `count` frontal views."""
    depth = frontal_depth(generator, count, seed, resolution, batch_size)
    camera = generator.camera_config
    return float(non_flatness(depth, camera.ray_start, camera.ray_end).mean())


@torch.inference_mode()
def views(generator: Generator, count: int, seed: int, resolution: int, batch_size: int) -> dict[str, float]:
    """How far two views of the same scene agree, the second turned to the left and to the right by turns.

    Args:
        generator: in evaluation mode.
        count: scenes; scene i is that of the fakes with the same seed.
        seed: of the scenes.
        resolution: R.
        batch_size: scenes at once.

    Returns:
        view_color_error (0 to 255), view_depth_error (as a share of the ray's length) and view_judged (share of
        pixels): means over scenes.
    """
    results = []
    with progress("evaluate: views", count, unit="scenes") as bar:
        for start, end in chunks(count, batch_size):
            scenes = sample_scenes(generator, end - start, seed, start=start)
            first = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
            second = first.clone()
            second[:, YAW] += TURN * (1 - 2 * (torch.arange(start, end, device=first.device) % 2))
            planes = generator.make_planes(generator.map(scenes.z, scenes.labels))
            seen = [generator.render(planes, cameras, resolution) for cameras in (first, second)]
            compared = view_agreement(seen[0].rgb, seen[0].depth, first, seen[1].rgb, seen[1].depth, second)
            results.append(torch.stack(compared).double().cpu().numpy())
            bar.advance(end - start)
    color, depth, judged = np.concatenate(results, axis=1)
    camera = generator.camera_config
    values = {
        "view_color_error": _mean(color) * 127.5,
        "view_depth_error": _mean(depth) / (camera.ray_end - camera.ray_start),
        "view_judged": _mean(judged),
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _mean(values: np.ndarray) -> float:
    """Over the scenes in which something was judged; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def depth_consistency(scenes: Fakes, count: int, estimator: DepthEstimator, label: str) -> float | None:
    """Mean error of rendered depth against what an estimator sees in the first `count` pictures; None if it sees
    nothing anywhere."""
    errors, first = [], 0
    columns = (scenes.column(name).parts for name in ("image", "depth", "camera"))
    with progress(label, min(count, len(scenes))) as bar:
        for parts in zip(*columns, strict=True):
            if first >= count:
                break
            images, depth, cameras = (part()[: count - first] for part in parts)
            seen = estimated_depth(images, estimator, first=first)
            errors.append(aligned_error(axis_depth(depth, cameras)[:, 0], seen))
            first += len(images)
            bar.advance(len(images))
    return mean_error(errors)
