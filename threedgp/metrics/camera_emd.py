"""How far the learned cameras are from the true ones, where those are known."""

from __future__ import annotations

import numpy as np

COMPARED = {"yaw": 0, "pitch": 1, "fov": 3, "look_at_radius": 7}
"""Camera parameters that are compared, and their columns in a camera array `[N, 8]`."""


def wasserstein_1d(first: np.ndarray, second: np.ndarray) -> float:
    """Wasserstein-1 distance between two samples `[N]` and `[M]` of a number: the area between their
    distribution functions."""
    first, second = np.sort(first.astype(np.float64)), np.sort(second.astype(np.float64))
    places = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(values, places[:-1], side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(places))


def camera_distances(posterior: np.ndarray, prior: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean and spread of every compared parameter, and its distance from the truth.

    The mean pose is partly a matter of convention; the spread is not.

    Args:
        posterior: learned cameras `[N, 8]`; radians, fov in degrees, scene units.
        prior: what they were drawn from, `[M, 8]`.
        truth: true cameras `[K, 8]`.

    Returns:
        for each parameter, in its unit: emd (posterior to truth), emd_prior (the control: prior to truth), and mean
        and std of all three (mean, std, prior_mean, ..., true_std).
    """
    result = {}
    for parameter, column in COMPARED.items():
        learned, drawn, true = (cameras[:, column].astype(np.float64) for cameras in (posterior, prior, truth))
        values = {"emd": wasserstein_1d(learned, true), "emd_prior": wasserstein_1d(drawn, true)}
        for name, numbers in (("", learned), ("prior_", drawn), ("true_", true)):
            values |= {f"{name}mean": float(numbers.mean()), f"{name}std": float(numbers.std())}
        result[parameter] = values
    return result


def total_distance(distances: dict[str, dict[str, float]], ranges: dict[str, tuple[float, float]], key: str) -> float:
    """One number: the mean over parameters of the distance as a share of the prior's range.

    Args:
        distances: of `camera_distances`.
        ranges: bounds of the prior for each parameter; one without extent does not count.
        key: `emd` for the learned cameras, `emd_prior` for the prior.
    """
    widths = {name: ranges[name][1] - ranges[name][0] for name in distances}
    return float(np.mean([distances[name][key] / width for name, width in widths.items() if width > 0] or [0.0]))
