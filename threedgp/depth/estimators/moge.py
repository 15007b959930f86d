"""MoGe-2 (Wang et al., arXiv 2507.02546) through its own package: metric depth, with a mask of what has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.network import DepthMap
from threedgp.runtime.errors import UserError

INSTALL = "pip install git+https://github.com/microsoft/MoGe.git"


class MogeDepth:
    """Runs MoGe in float32, one picture at a time: it works at the size and shape of each."""

    batches = False

    def __init__(self, file: Path, device: torch.device) -> None:
        """Load the weights in `file`.

        Raises:
            UserError: the package is not installed, or cannot load the file.
        """
        model_class = package()
        try:
            self._model = model_class.from_pretrained(str(file)).eval().to(device)
        except Exception as error:  # what the package raises is not documented
            raise UserError(f"depth.weights: MoGe cannot load {file}: {' '.join(str(error).split())}") from None
        self._device = device

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: NDArray[np.uint8]) -> DepthMap:
        image = torch.tensor(picture, device=self._device).permute(2, 0, 1).float() / 255
        found = self._model.infer(image, use_fp16=False)
        depth = found["depth"].float().cpu().numpy()
        # Where the mask says no, depth is infinite; a model without a mask head has no mask.
        known = found["mask"].cpu().numpy() if "mask" in found else ~np.isposinf(depth)
        return DepthMap(depth, known)


def package() -> type:
    """The class `MoGeModel`.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from moge.model.v2 import MoGeModel
    except ImportError as error:
        raise UserError(f"depth.estimator: 'moge' needs its package ({error}); run `{INSTALL}`.") from None
    return MoGeModel
