"""Estimator `none`: no depth, for models that learn geometry from color alone (EpiGRAF)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import EstimatorKind


class NoDepth:
    """Gives every image an empty map, so that all images stay in the training set."""

    name = "none"
    looks_at_pixels = False

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32]]:
        """A map `[0, 0]` for each image."""
        return [np.empty((0, 0), np.float32) for _ in pictures]


ESTIMATOR = EstimatorKind(build=lambda config: NoDepth(), output="nothing; with `model.depth: false`")
