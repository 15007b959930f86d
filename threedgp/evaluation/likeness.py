"""How similar a view of a scene is to a given image."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from threedgp.features.network import build_extractor
from threedgp.metrics.depth_consistency import aligned_error

MIN_INPUT = 64
"""Smallest side of the images that the network sees."""


def likeness(made: np.ndarray, depth: np.ndarray, image: np.ndarray, true_depth: np.ndarray | None) -> dict[str, float]:
    """Agreement of a view uint8 `[R, R, 3]` and its depth `[R, R]` with an image uint8 `[3, R, R]` and its true depth:
    peak signal-to-noise ratio in dB (99 if equal), cosine similarity of the packaged network's features (1 = equal),
    and error of depth after the best scale and shift (0 = equal, 1 = a flat plane)."""
    view = np.ascontiguousarray(made.transpose(2, 0, 1))
    network = build_extractor("efficientnet_lite0", input_size=max(len(made), MIN_INPUT))
    features = [network(torch.from_numpy(one.copy())[None]).pooled for one in (view, image)]
    squared = np.square(view.astype(float) - image).mean()
    values = {"psnr": min(float(10 * np.log10(255**2 / max(squared, 1e-9))), 99.0)}
    values["feature_similarity"] = float(F.cosine_similarity(*features))
    if true_depth is not None:
        values["depth_error"] = float(aligned_error(depth[None], true_depth[None])[0])
    return values
