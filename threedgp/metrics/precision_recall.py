"""Precision and recall of features (Kynkaanniemi et al. 2019, arXiv 1904.06991, sec. 2), by torch-fidelity."""

from __future__ import annotations

import numpy as np
import torch
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Metric, Value

NEIGHBORHOOD = 3
"""k: the ball of an image reaches to the k-th nearest image of the same set."""
BLOCK = 10000
"""Images whose distances to all others are held in memory at once."""


def precision_recall(
    fakes: np.ndarray, reals: np.ndarray, device: torch.device | str = "cpu", *, block: int = BLOCK
) -> tuple[float, float]:
    """Precision and recall: fractions of generated images inside a ball of a real one, and the other way round.

    Both depend on the sizes of the sets, so compare equal sizes only. Features are float32 `[N, D]` and `[M, D]`, N and
    M above `NEIGHBORHOOD`; `block` bounds memory and does not change the result.
    """
    sets = (torch.from_numpy(features).to(device) for features in (fakes, reals))
    settings = dict(prc_neighborhood=NEIGHBORHOOD, prc_batch_size=block, save_cpu_ram=True, verbose=False)
    values = prc_features_to_metric(*sets, **settings)
    return values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL]


METRIC = Metric(
    precision_recall,
    Value(
        "precision",
        "Precision on {network} features",
        "Fraction of generated images among the real ones: inside the ball of a real image that reaches to its "
        "third nearest neighbor.",
        better="higher",
        column=100,
        published="precision",
    ),
    Value(
        "recall",
        "Recall on {network} features",
        "Fraction of real images among the generated ones.",
        better="higher",
        column=101,
        published="recall",
    ),
    needs=("neighbor_features", "real_neighbor_features", "device"),
    controls=(UNTRAINED, OTHER_HALF),
)
