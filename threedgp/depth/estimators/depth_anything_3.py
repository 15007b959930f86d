"""Depth Anything 3 (Lin et al., arXiv 2511.10647), in its own package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.estimator import NetworkKind
from threedgp.depth.estimators._network import DepthMap
from threedgp.runtime.errors import UserError


class DepthAnything3Depth:
    """Runs the model one image at a time: images of one call are views of one scene.

    The package computes in bfloat16, or in float16 on GPUs without it.
    """

    batches, metric = False, False

    def __init__(self, folder: Path, device: torch.device) -> None:
        from depth_anything_3.api import DepthAnything3

        try:
            self._model = DepthAnything3.from_pretrained(str(folder)).to(device)
        except Exception as error:  # the package does not document what it raises
            reason = " ".join(str(error).split())
            raise UserError(f"depth.weights: Depth Anything 3 cannot load {folder}: {reason}") from None

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        return [self._run(image) for image in images]

    def _run(self, image: NDArray[np.uint8]) -> DepthMap:
        output = self._model.inference([image])
        sky = getattr(output, "sky", None)
        return DepthMap(np.asarray(output.depth[0], np.float32), None if sky is None else np.asarray(sky[0]) < 0.5)


ESTIMATOR = NetworkKind(
    load=DepthAnything3Depth,
    output="relative depth, a mask of the sky",
    weights="depth-anything/DA3MONO-LARGE",
    license="Apache-2.0",
    package="depth_anything_3.api",
    install="pip install git+https://github.com/ByteDance-Seed/Depth-Anything-3.git",
)
