"""Estimator `simulated_metric`: like `simulated`, but depth is metric, see `simulated.depth_of`."""

from dataclasses import replace
from functools import partial

from threedgp.depth.estimators import simulated

ESTIMATOR = replace(
    simulated.ESTIMATOR,
    depth_of=partial(simulated.depth_of, metric=True),
    output="true depth and field of view of the procedural world, with the errors of a metric estimator",
    metric=True,
)
