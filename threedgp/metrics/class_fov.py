"""Agreement of learned and true fields of view over classes, where the true cameras are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from threedgp.camera.geometry import FOV
from threedgp.metrics._declaration import MODEL, Measured, Metric, Value


def class_agreement(
    fov: np.ndarray, labels: np.ndarray, truth: np.ndarray, true_labels: np.ndarray
) -> tuple[float, float]:
    """Pearson correlation of the mean fields of view over classes, and their mean absolute difference.

    Fields of view are `[N]` with labels `[N]`, and `[M]` with labels `[M]` for the truth; classes that only one of them
    has are left out. The correlation is NaN where the means of either do not differ between classes, and for fewer than
    three classes, since that of two is always 1 or -1.
    """
    common = np.intersect1d(labels, true_labels)
    if not len(common):
        return float("nan"), float("nan")
    means = np.array([[fov[labels == label].mean(), truth[true_labels == label].mean()] for label in common]).T
    constant = (np.ptp(means, axis=1) <= 1e-4).any()  # degrees; float32 of equal values
    correlation = float("nan") if constant or len(common) < 3 else float(np.corrcoef(means)[0, 1])
    return correlation, float(np.abs(means[0] - means[1]).mean())


def measure(
    cameras: Mapping[str, np.ndarray],
    prior_cameras: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    real_cameras: np.ndarray,
    real_camera_labels: np.ndarray,
) -> Measured:
    """Both numbers for the model and for its prior."""
    truth = real_cameras[:, FOV].astype(np.float64)
    drawn = {MODEL: cameras[MODEL], "prior": prior_cameras[MODEL]}
    fov = {name: one[:, FOV].astype(np.float64) for name, one in drawn.items()}
    numbers = {name: class_agreement(one, labels[MODEL], truth, real_camera_labels) for name, one in fov.items()}
    return Measured(numbers, {})


METRIC = Metric(
    measure,
    Value(
        "class_fov_correlation",
        "Correlation of learned and true fields of view over classes",
        "Pearson correlation, over classes, of the mean fields of view of learned and of true cameras.",
        "higher",
        column=180,
    ),
    Value(
        "class_fov_error",
        "Difference of learned and true fields of view by class",
        "Mean over classes of the absolute difference between the mean fields of view of learned and of true cameras.",
        column=181,
        unit="degrees",
    ),
    jointly=True,
)
