"""Estimator `simulated_metric`: true depth and field of view with the faults of an estimator of metric depth."""

from functools import partial

from threedgp.depth.estimator import EstimatorKind
from threedgp.depth.estimators._simulated import depth_of, fov_of

ESTIMATOR = EstimatorKind(
    depth_of=partial(depth_of, metric=True),
    output="true depth and field of view of the procedural world, with the errors of a metric estimator",
    source_depth=("true",),
    fov_of=fov_of,
    metric=True,
)
