"""Precision and recall of a set of features (Kynkaanniemi et al. 2019, arXiv 1904.06991), through torch-fidelity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

NEIGHBOURHOOD = 3
"""k: a ball reaches from its picture to the k-th nearest of the same set."""
BLOCK = 10000
"""Pictures whose distances to all others are in memory at once."""


class PrecisionRecall(NamedTuple):
    """Shares of pictures."""

    precision: float
    """Of generated pictures inside a ball of a real one: how many look real."""
    recall: float
    """Of real pictures inside a ball of a generated one: how much of the real set is covered."""


def precision_recall(
    fakes: np.ndarray, reals: np.ndarray, *, device: torch.device | str = "cpu", block: int = BLOCK
) -> PrecisionRecall:
    """Both shares depend on the sizes of the sets, so compare only among equal sizes.

    Args:
        fakes, reals: float32 `[N, D]` and `[M, D]`, N and M above `NEIGHBOURHOOD`.
        device: where distances are computed.
        block: bounds memory; no part of the result.
    """
    values = prc_features_to_metric(
        torch.from_numpy(fakes).to(device),
        torch.from_numpy(reals).to(device),
        prc_neighborhood=NEIGHBOURHOOD,
        prc_batch_size=block,
        save_cpu_ram=True,
        verbose=False,
    )
    return PrecisionRecall(values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL])
