"""Depth Anything 3 (Lin et al., arXiv 2511.10647) through its own package: relative depth, with a mask of the sky."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.network import DepthMap
from threedgp.runtime.errors import UserError

INSTALL = "pip install git+https://github.com/ByteDance-Seed/Depth-Anything-3.git"


class DepthAnything3Depth:
    """Runs the model one picture at a time: pictures given together count as views of one scene.

    The package computes in bfloat16, or float16 where the GPU lacks that, and offers no choice.
    """

    batches = False

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model in `folder`: ``config.json`` and ``model.safetensors``.

        Raises:
            UserError: the package is not installed, or cannot load the folder.
        """
        model_class = package()
        try:
            self._model = model_class.from_pretrained(str(folder)).to(device)
        except Exception as error:  # what the package raises is not documented
            raise UserError(
                f"depth.weights: Depth Anything 3 cannot load {folder}: {' '.join(str(error).split())}"
            ) from None

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: NDArray[np.uint8]) -> DepthMap:
        found = self._model.inference([picture])
        depth = np.asarray(found.depth[0], np.float32)
        sky = getattr(found, "sky", None)
        return DepthMap(depth, None if sky is None else np.asarray(sky[0]) < 0.5)


def package() -> type:
    """The class `DepthAnything3`.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from depth_anything_3.api import DepthAnything3
    except ImportError as error:
        raise UserError(f"depth.estimator: 'depth_anything_3' needs its package ({error}); run `{INSTALL}`.") from None
    return DepthAnything3
