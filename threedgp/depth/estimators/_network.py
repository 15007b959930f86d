"""Estimators that are neural networks: batches, images that fail, pixels without depth."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.data.images import resize_map
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Estimate, Rejected
from threedgp.runtime.errors import UserError

MAX_UNKNOWN_SHARE = 0.95
"""An image is rejected if a larger share of its pixels has no depth: it shows almost nothing but sky."""
MAX_FAILURES = 32
"""Consecutive failures that end the run: so many images cannot all be bad, so the network or the device must be."""


class DepthMap(NamedTuple):
    """Output of a network for one image."""

    depth: NDArray[np.float32]  # [h, w], of any size but with the aspect ratio of the image: any unit, larger = farther
    known: NDArray[np.bool_] | None = None  # [h, w], the pixels that have depth, which the sky has not; None = all
    fov: float | None = None  # as in `Estimate`


class DepthNetwork(Protocol):
    """A network on its device."""

    batches: bool  # whether images of one batch do not influence each other
    metric: bool  # as in `DepthEstimator`

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        """Depth of RGB images `[H, W, 3]`; may raise any exception on an image that it cannot process."""
        ...


class NetworkDepth:
    """Estimates depth with a network, in batches of at most `batch_size`, one batch at a time.

    An image that the network cannot process is rejected without its batch. Pixels without depth, mostly sky, get the
    largest depth of the image, since training needs a value for every pixel.
    """

    looks_at_pixels = True

    def __init__(self, name: str, network: DepthNetwork, batch_size: int) -> None:
        self.name, self.metric = name, network.metric
        self._network, self._batch_size = network, batch_size if network.batches else 1
        self._lock = threading.Lock()
        self._failures = 0

    def estimate(self, pictures: Sequence[RawPicture]) -> list[Estimate | Rejected]:
        """See `DepthEstimator`.

        Raises:
            UserError: a batch does not fit into the memory of the GPU, or the network fails on every image.
        """
        results: list[Estimate | Rejected] = []
        for start in range(0, len(pictures), self._batch_size):
            batch = pictures[start : start + self._batch_size]
            for picture, output in zip(batch, self._run(batch), strict=True):
                results.append(output if isinstance(output, Rejected) else complete(output, *picture.rgb.shape[:2]))
        return results

    def _run(self, batch: Sequence[RawPicture]) -> Sequence[DepthMap | Rejected]:
        try:
            with self._lock:
                outputs = self._network([picture.rgb for picture in batch])
                self._failures = 0
                return outputs
        except torch.OutOfMemoryError:
            raise UserError(
                f"depth.batch_size: {len(batch)} images at once need more memory than the GPU has free; "
                "choose a smaller number and run the same command again."
            ) from None
        except torch.AcceleratorError:  # after an error of the device every further call fails
            raise
        except Exception as error:
            if len(batch) > 1:
                return [output for picture in batch for output in self._run([picture])]
            return [self._failed(error)]

    def _failed(self, error: Exception) -> Rejected:
        reason = " ".join(str(error).split()) or type(error).__name__
        with self._lock:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise UserError(
                    f"depth.estimator: '{self.name}' failed on {self._failures} images in a row; the last: {reason}."
                )
        return Rejected(f"the estimator failed: {reason}")


def complete(output: DepthMap, height: int, width: int) -> Estimate | Rejected:
    """Fill the pixels without depth and resize the map to `[height, width]`."""
    depth, known, fov = output
    if known is not None and not known.all():
        unknown_share = 1 - float(known.mean())
        if unknown_share > MAX_UNKNOWN_SHARE:
            return Rejected(f"{unknown_share:.1%} of the image has no depth (sky, or unknown)")
        depth = np.where(known, depth, depth[known].max())
    if depth.shape != (height, width):
        depth = resize_map(depth, height, width)
    return Estimate(depth, fov)
