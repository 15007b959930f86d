"""Estimator `sidecar`: the depth maps that came with the images."""

from threedgp.depth.estimator import EstimatorKind

ESTIMATOR = EstimatorKind(
    depth_of=lambda picture, config: picture.depth,
    output="maps that came with the source (`rgbd`)",
    source_depth=("sidecar", "true"),
)
