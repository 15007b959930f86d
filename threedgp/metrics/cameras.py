"""Distance between the distributions of learned and true cameras, where the true ones are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import wasserstein_distance

from threedgp.camera.geometry import PRIOR_FIELDS
from threedgp.metrics._declaration import MODEL, Measured, Metric, Value


def camera_distances(posterior: np.ndarray, prior: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    """Wasserstein-1 distance from the true cameras, mean and standard deviation of every compared parameter, in its
    unit.

    The mean pose is partly a matter of convention; the standard deviation is not. All cameras are `[N, 8]`. For each
    parameter there are emd (posterior to truth), emd_prior (the control: prior to truth), and mean and std of all three
    (mean, std, prior_mean, ..., true_std).
    """
    result = {}
    for parameter, column in PRIOR_FIELDS.items():
        learned, drawn, true = (cameras[:, column].astype(np.float64) for cameras in (posterior, prior, truth))
        values = {
            "emd": float(wasserstein_distance(learned, true)),
            "emd_prior": float(wasserstein_distance(drawn, true)),
        }
        for name, numbers in (("", learned), ("prior_", drawn), ("true_", true)):
            values |= {f"{name}mean": float(numbers.mean()), f"{name}std": float(numbers.std())}
        result[parameter] = values
    return result


def total_distance(distances: dict[str, dict[str, float]], ranges: dict[str, tuple[float, float]], key: str) -> float:
    """Mean over parameters of the distance `key` in the result of `camera_distances` (`emd` for the learned cameras,
    `emd_prior` for the prior), as a fraction of the prior's range; parameters of zero range are left out, NaN if all
    are."""
    widths = {name: ranges[name][1] - ranges[name][0] for name in distances}
    return float(np.mean([distances[name][key] / width for name, width in widths.items() if width > 0] or [np.nan]))


def measure(
    cameras: Mapping[str, np.ndarray],
    prior_cameras: Mapping[str, np.ndarray],
    real_cameras: np.ndarray,
    camera_ranges: dict[str, tuple[float, float]],
) -> Measured:
    """Total distance and that of each parameter for the model, and the total distance for its prior."""
    distances = camera_distances(cameras[MODEL], prior_cameras[MODEL], real_cameras)
    emds = [row["emd"] for row in distances.values()]
    numbers = {
        MODEL: (total_distance(distances, camera_ranges, "emd"), *emds),
        "prior": (total_distance(distances, camera_ranges, "emd_prior"),),
    }
    return Measured(numbers, {"camera_distances.json": distances})


METRIC = Metric(
    measure,
    Value(
        "camera_emd",
        "Distance between learned and true cameras",
        "Wasserstein-1 distance as a fraction of the prior's range, mean over the camera parameters that the prior "
        "varies. Compare models of the same prior only.",
        column=80,
    ),
    *(
        Value(
            f"camera_emd_{name}",
            f"Distance between learned and true {name.replace('_', ' ')}",
            "Wasserstein-1 distance of one camera parameter.",
            column=170 + place,
            unit={"fov": "degrees", "look_at_radius": "scene units"}.get(name, "radians"),
            controls=False,
        )
        for place, name in enumerate(PRIOR_FIELDS)
    ),
    jointly=True,
)
