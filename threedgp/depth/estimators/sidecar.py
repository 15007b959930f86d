"""Estimator `sidecar`: the depth maps that came with the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import NO_DEPTH, EstimatorKind, Rejected


class SidecarDepth:
    """Returns the depth maps of the source."""

    name = "sidecar"
    looks_at_pixels = False

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        return [NO_DEPTH if picture.depth is None else picture.depth for picture in pictures]


ESTIMATOR = EstimatorKind(
    build=lambda config: SidecarDepth(),
    output="maps that came with the source (`rgbd`)",
    source_depth=("sidecar", "true"),
)
