"""Depth Pro (Bochkovskii et al., arXiv 2410.02073)."""

from threedgp.depth.estimators._transformers import transformers_kind

MAX_DEPTH = 250.0
"""Meters. The network estimates inverse depth, which is near zero beyond, so that its rounding moves depth by
kilometers. A single pixel at 10 km would make each of the 65536 levels 15 cm thick. Apple's figures end here, too."""

ESTIMATOR = transformers_kind(
    "depth_pro",
    output="metric depth and the field of view",
    weights="apple/DepthPro-hf",
    license="Apple, for research",
    fov=True,
    max_depth=MAX_DEPTH,
)
