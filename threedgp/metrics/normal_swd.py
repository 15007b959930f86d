"""Sliced Wasserstein distance between normals of rendered and of true depth, where true depth is known."""

from __future__ import annotations

from functools import partial

from threedgp.metrics._declaration import FLAT, OTHER_HALF, UNTRAINED, Metric, Value
from threedgp.metrics.swd import measure

MAX_MAPS = 512
"""Normal maps compared per set: they cost three times as much as depth, and these are enough to tell sets apart."""

METRIC = Metric(
    partial(measure, max_count=MAX_MAPS),
    Value(
        "normal_swd",
        "Sliced Wasserstein distance of normals",
        "Distance between surface normals of rendered and of true depth.",
        column=130,
    ),
    needs=("normals", "real_normals", "seed", "label"),
    controls=(UNTRAINED, OTHER_HALF, FLAT),
    jointly=True,
)
