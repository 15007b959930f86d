"""Depth Anything V2 (Yang et al., arXiv 2406.09414)."""

from threedgp.depth.estimators._transformers import transformers_kind

ESTIMATOR = transformers_kind(
    "depth_anything_v2",
    output="inverse depth up to scale and shift; metric depth with the metric models",
    weights="depth-anything/Depth-Anything-V2-Large-hf",
    license="CC-BY-NC-4.0 (Small: Apache-2.0)",
    model_type="depth_anything",
    is_inverse=lambda config: config.depth_estimation_type == "relative",
)
