"""Sliced Wasserstein distance between rendered and true depth maps, where true depth is known."""

from __future__ import annotations

from threedgp.metrics._declaration import FLAT, OTHER_HALF, UNTRAINED, Metric, Value
from threedgp.metrics.swd import measure

METRIC = Metric(
    measure,
    Value(
        "depth_swd",
        "Sliced Wasserstein distance of depth",
        "Distance between rendered and true depth maps, each set normalized by its own deviation. A model without "
        "shape scores like the flat plane.",
        column=70,
    ),
    needs=("depth", "real_depth", "seed", "label"),
    controls=(UNTRAINED, OTHER_HALF, FLAT),
    jointly=True,
)
