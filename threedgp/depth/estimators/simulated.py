"""Estimator `simulated`: true depth and field of view with the faults of an estimator of relative depth."""

from threedgp.depth.estimator import EstimatorKind
from threedgp.depth.estimators._simulated import depth_of, fov_of

ESTIMATOR = EstimatorKind(
    depth_of=depth_of,
    output="true depth and field of view of the procedural world, made inaccurate",
    source_depth=("true",),
    fov_of=fov_of,
)
