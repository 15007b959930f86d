"""Inception score (Salimans et al. 2016, arXiv 1606.03498), through torch-fidelity."""

from __future__ import annotations

import numpy as np
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from threedgp.metrics.kernel_distance import Spread

SPLITS = 10


def inception_score(logits: np.ndarray, *, splits: int = SPLITS) -> Spread:
    """exp(mean KL divergence of p(class | picture) from p(class)): between 1 and the number of classes.

    Args:
        logits: float32 `[N, K]`, N >= `splits`, without bias as the published score has them.
        splits: equal parts, drawn at random, that are scored on their own.
    """
    values = isc_features_to_metric(torch.from_numpy(logits), splits=splits)
    return Spread(values[KEY_METRIC_ISC_MEAN], values[KEY_METRIC_ISC_STD])
