"""Estimator `sidecar`: the maps that came with the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Rejected

NO_DEPTH = Rejected("the source has no depth for this picture")


class SidecarDepth:
    """Hands out the depth of the source."""

    name = "sidecar"
    looks_at_pixels = False

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        return [NO_DEPTH if picture.depth is None else picture.depth for picture in pictures]
