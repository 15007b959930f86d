"""ZoeDepth (Bhat et al., arXiv 2302.12288)."""

from threedgp.depth.estimators._transformers import transformers_kind

ESTIMATOR = transformers_kind(
    "zoedepth",
    output="metric depth",
    weights="Intel/zoedepth-nyu-kitti",
    license="MIT",
    size_argument="source_sizes",  # its processor also removes the padding that it added
)
