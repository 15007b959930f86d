"""Inception score (Salimans et al. 2016, arXiv 1606.03498, sec. 4), by torch-fidelity."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from threedgp.metrics._declaration import UNTRAINED, Metric, Value

NUM_SPLITS = 10


def inception_score(logits: np.ndarray, *, splits: int = NUM_SPLITS) -> tuple[float, float]:
    """exp(mean KL divergence of p(class | image) from p(class)): between 1 and the number of classes.

    Logits are float32 `[N, K]`, N >= `splits`, without bias in the published score. Returns mean and standard deviation
    over equal random splits, NaN if K = 0 (a network without a classifier).
    """
    if logits.shape[1] == 0:
        return math.nan, math.nan
    values = isc_features_to_metric(torch.from_numpy(logits), splits=splits)
    return values[KEY_METRIC_ISC_MEAN], values[KEY_METRIC_ISC_STD]


METRIC = Metric(
    inception_score,
    Value(
        "class_score",
        "Class score of {network}",
        "How certain the network is of the class of each image, and how many classes it finds; real images play "
        "no part.",
        better="higher",
        column=20,
        published="inception_score",
    ),
    Value(
        "class_score",
        "Standard deviation of the class score over 10 splits",
        "How far splits of the images differ.",
        better=None,
        published="inception_score",
        suffix="_std",
        controls=False,
    ),
    controls=(UNTRAINED,),
)
