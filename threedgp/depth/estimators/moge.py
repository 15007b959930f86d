"""MoGe-2 (Wang et al., arXiv 2507.02546), in its own package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.estimator import NetworkKind
from threedgp.depth.estimators._network import DepthMap
from threedgp.runtime.errors import UserError


class MogeDepth:
    """Runs MoGe in float32, one image at a time, since it works at the size of each."""

    batches = False

    def __init__(self, file: Path, device: torch.device) -> None:
        from moge.model.v2 import MoGeModel

        try:
            self._model = MoGeModel.from_pretrained(str(file)).eval().to(device)
        except Exception as error:  # the package does not document what it raises
            raise UserError(f"depth.weights: MoGe cannot load {file}: {' '.join(str(error).split())}") from None
        self.metric = hasattr(self._model, "scale_head")
        self._device = device

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        return [self._run(torch.tensor(image, device=self._device)) for image in images]

    def _run(self, image: torch.Tensor) -> DepthMap:
        output = self._model.infer(image.permute(2, 0, 1).float() / 255, use_fp16=False)
        depth = output["depth"].float().cpu().numpy()
        # Depth is infinite outside of the mask; models without a mask head return none.
        known = output["mask"].cpu().numpy() if "mask" in output else ~np.isposinf(depth)
        focal = output["intrinsics"][0, 0].item()  # as a fraction of the width
        return DepthMap(depth, known, math.degrees(2 * math.atan(0.5 / focal)))


ESTIMATOR = NetworkKind(
    load=MogeDepth,
    output="metric depth, the field of view, a mask of the sky",
    weights="Ruicheng/moge-2-vitl",
    file="model.pt",
    license="MIT",
    package="moge.model.v2",
    fov=True,
    install="pip install git+https://github.com/microsoft/MoGe.git",
)
