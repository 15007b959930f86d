"""Kernel distance between two sets of features (Binkowski et al. 2018, arXiv 1801.01401, sec. 4), by torch-fidelity."""

from __future__ import annotations

import numpy as np
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Metric, Value

NUM_SUBSETS, SUBSET_SIZE = 100, 1000


def kernel_distance(
    features: np.ndarray, real_features: np.ndarray, *, subsets: int = NUM_SUBSETS, subset_size: int | None = None
) -> tuple[float, float]:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

    Features are float32 `[N, D]` and `[M, D]`. Values of sets of different sizes are comparable; between equal
    distributions the value scatters around 0. Returns mean and standard deviation over random subsets of both sets.
    `subset_size` None = 1000, or half of the smaller set if that is less: larger subsets would hardly differ.
    """
    size = subset_size or min(SUBSET_SIZE, len(features) // 2, len(real_features) // 2)
    settings = dict(kid_subsets=subsets, kid_subset_size=size, verbose=False)
    values = kid_features_to_metric(torch.from_numpy(features), torch.from_numpy(real_features), **settings)
    return values[KEY_METRIC_KID_MEAN], values[KEY_METRIC_KID_STD]


METRIC = Metric(
    kernel_distance,
    Value(
        "kd",
        "Kernel distance on {network} features",
        "Compares features of generated and real images without the bias that the Fréchet distance has for few "
        "images: 100 subsets of 1,000, kernel (x·y / D + 1)³.",
        column=90,
        published="kid",
    ),
    Value(
        "kd",
        "Standard deviation of the kernel distance over subsets",
        "How far subsets of the images differ.",
        better=None,
        published="kid",
        suffix="_std",
        controls=False,
    ),
    controls=(UNTRAINED, OTHER_HALF),
)
