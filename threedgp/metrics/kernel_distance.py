"""Kernel distance between two sets of features (Binkowski et al. 2018, arXiv 1801.01401), through torch-fidelity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

SUBSETS, SUBSET_SIZE = 100, 1000


class Spread(NamedTuple):
    """Mean and standard deviation over subsets or splits."""

    mean: float
    std: float


def kernel_distance(
    fakes: np.ndarray, reals: np.ndarray, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> Spread:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, the unbiased estimate.

    Being unbiased it is comparable between sets of different sizes; of equal distributions it scatters around 0.

    Args:
        fakes, reals: float32 `[N, D]` and `[M, D]`.
        subsets: random subsets of both, whose distances are averaged.
        subset_size: pictures of each; all of the smaller set if that has fewer.
    """
    size = min(subset_size, len(fakes), len(reals))
    values = kid_features_to_metric(
        torch.from_numpy(fakes), torch.from_numpy(reals), kid_subsets=subsets, kid_subset_size=size, verbose=False
    )
    return Spread(values[KEY_METRIC_KID_MEAN], values[KEY_METRIC_KID_STD])
