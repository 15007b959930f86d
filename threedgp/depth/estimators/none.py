"""Estimator `none`: for models that learn geometry from colour alone (EpiGRAF)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture


class NoDepth:
    """Every picture gets an empty map, so that all of them stay in the training set."""

    name = "none"
    looks_at_pixels = False

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32]]:
        """A map of no pixels for each picture."""
        return [np.empty((0, 0), np.float32) for _ in pictures]
