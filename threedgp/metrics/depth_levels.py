"""Non-flatness score of views from the camera in the middle of the prior, without jitter of rays or influence of other
scenes."""

from __future__ import annotations

from threedgp.metrics._declaration import UNTRAINED, Metric, Value
from threedgp.metrics.nfs import measure

METRIC = Metric(
    measure,
    Value(
        "depth_levels",
        "Depth levels",
        "As nfs, but from the camera in the middle of the prior, with rays that are not jittered and a quantile of "
        "the densities of each image. It varies less, and cannot be compared with published scores.",
        better="higher",
        column=72,
    ),
    needs=("frontal_depth", "depth_range"),
    controls=(UNTRAINED,),
)
