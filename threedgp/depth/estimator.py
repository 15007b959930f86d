"""The interface of depth estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture


@dataclass(frozen=True)
class Rejected:
    """There is no usable depth for a picture."""

    reason: str


class DepthEstimator(Protocol):
    """From pictures to depth maps; may be called from several threads."""

    name: str
    looks_at_pixels: bool
    """Whether depth comes from the picture, so that the estimator can judge generated pictures too."""

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        """Depth `[H, W]` of each square picture `[H, W, 3]`: any unit, larger = farther; `[0, 0]` = none wanted.

        A picture's result depends on nothing but the picture and its id.
        """
        ...
