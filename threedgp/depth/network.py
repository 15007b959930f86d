"""Estimators that are neural networks: batches, pictures that fail, pixels without depth."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Rejected
from threedgp.runtime.errors import UserError

MOST_WITHOUT_DEPTH = 0.95
"""A picture that has no depth for more than this share of its pixels is left out: there is hardly a thing in it."""
FAILURES_IN_A_ROW = 32
"""So many pictures cannot all be bad: the network, or the device, is."""


class DepthMap(NamedTuple):
    """What a network says about a picture."""

    depth: NDArray[np.float32]
    """`[h, w]`, of any size but of the picture's shape: any unit, larger = farther."""
    known: NDArray[np.bool_] | None = None
    """`[h, w]`, where there is depth: not in the sky, for instance; None = everywhere."""


class DepthNetwork(Protocol):
    """A network on its device."""

    batches: bool
    """Whether several pictures may go through the network at once without a say in each other's depth."""

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        """Depth of RGB pictures `[H, W, 3]`; may raise anything on a picture that it cannot take."""
        ...


class NetworkDepth:
    """Depth by a network, in batches of `batch_size`, one batch at a time whatever the number of threads.

    A picture that the network cannot take is rejected alone. Pixels without depth are set to the farthest depth of the
    picture: what networks know no depth of is mostly sky, and training needs a value everywhere.
    """

    looks_at_pixels = True

    def __init__(self, name: str, network: DepthNetwork, batch_size: int) -> None:
        self.name = name
        self._network, self._batch_size = network, batch_size if network.batches else 1
        self._lock = threading.Lock()
        self._failures = 0

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        """As the interface says.

        Raises:
            UserError: a batch does not fit the memory of the GPU, or the network fails on one picture after the other.
        """
        results: list[NDArray[np.float32] | Rejected] = []
        for start in range(0, len(pictures), self._batch_size):
            batch = pictures[start : start + self._batch_size]
            for picture, found in zip(batch, self._run(batch), strict=True):
                results.append(found if isinstance(found, Rejected) else settle(found, *picture.rgb.shape[:2]))
        return results

    def _run(self, batch: Sequence[RawPicture]) -> Sequence[DepthMap | Rejected]:
        try:
            with self._lock:
                found = self._network([picture.rgb for picture in batch])
                self._failures = 0
                return found
        except torch.OutOfMemoryError:
            raise UserError(
                f"depth.batch_size: {len(batch)} pictures at once need more memory than the GPU has free; "
                "choose a smaller number and run the same command again."
            ) from None
        except torch.AcceleratorError:  # a device that failed answers nothing any more
            raise
        except Exception as error:
            if len(batch) > 1:
                return [found for picture in batch for found in self._run([picture])]
            return [self._failed(error)]

    def _failed(self, error: Exception) -> Rejected:
        reason = " ".join(str(error).split()) or type(error).__name__
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                raise UserError(
                    f"depth.estimator: '{self.name}' failed on {self._failures} pictures in a row; the last: {reason}."
                )
        return Rejected(f"the estimator failed: {reason}")


def settle(found: DepthMap, height: int, width: int) -> NDArray[np.float32] | Rejected:
    """A map without holes, `[height, width]`."""
    depth, known = found
    if known is not None and not known.all():
        share = 1 - float(known.mean())
        if share > MOST_WITHOUT_DEPTH:
            return Rejected(f"{share:.1%} of the picture has no depth (sky, or unknown)")
        depth = np.where(known, depth, depth[known].max())
    if depth.shape == (height, width):
        return depth
    shrinks = height < depth.shape[0]
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
