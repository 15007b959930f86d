"""Depth adaptor: maps rendered depth to that of an imperfect depth estimator (3DGP, section 3.2)."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from threedgp.camera.geometry import FOV, cam2world
from threedgp.config import DepthAdaptorConfig
from threedgp.models.layers import EqualizedConv, EqualizedLinear

MAX_FACTOR = 2.0
"""Mode `affine` multiplies depth by at most this factor, and by at least its inverse: a flat scene must not be shown as
a deep one."""


class DepthAdaptor(nn.Module):
    """Maps rendered depth to candidate depth maps, from the input itself, scaled to [-1, 1], to the output of the last
    layer."""

    def __init__(self, config: DepthAdaptorConfig, near: float, far: float, w_dim: int) -> None:
        super().__init__()
        self.near, self.far = near, far
        self.mode = config.mode
        self.near_offset_share = config.near_offset_share
        self.near_offset_raw = nn.Parameter(torch.full((1,), config.near_offset_init))
        if self.mode == "affine":
            self.coefficients = nn.Sequential(
                EqualizedLinear(w_dim + 13, config.channels, activation="leaky_relu"),
                EqualizedLinear(config.channels, 2),
            )
            nn.init.zeros_(self.coefficients[1].weight)  # so that training starts with the scaled depth itself
        elif self.mode != "off":
            channels = [1] + [config.channels] * config.layers
            self.layers = nn.ModuleList(
                EqualizedConv(before, after, config.kernel_size, activation="leaky_relu")
                for before, after in pairwise(channels)
            )
            self.head = EqualizedConv(config.channels, 1, 1)

    @property
    def num_candidates(self) -> int:
        """Number of candidates that `forward` returns."""
        return 1 if self.mode in ("off", "affine") else len(self.layers) + 1

    def near_offset(self) -> Tensor:
        """Learned distance in scene units between the start of the ray and the depth that maps to -1."""
        return torch.sigmoid(self.near_offset_raw) * (self.near_offset_share * (self.far - self.near))

    def scale(self, depth: Tensor) -> Tensor:
        """Scale distances between near + offset and far to [-1, 1]."""
        near = self.near + self.near_offset()
        return (depth - near) / (self.far - near) * 2 - 1

    def _affine(self, scaled: Tensor, w: Tensor, cameras: Tensor) -> Tensor:
        """Scaled depth times a factor plus a shift for each image. They depend on style and camera, without a gradient
        to either, and not on the patch: patches with coefficients of their own could hide wrong geometry."""
        pose = cam2world(cameras)[:, :3].flatten(1)
        image = torch.cat([w, pose, torch.deg2rad(cameras[:, FOV, None])], dim=1).detach()
        factor, shift = self.coefficients(image)[:, :, None, None].split(1, dim=1)
        return scaled * MAX_FACTOR ** torch.tanh(factor) + shift

    def forward(self, depth: Tensor, w: Tensor | None = None, cameras: Tensor | None = None) -> Tensor:
        """Map rendered depth `[B, 1, H, W]` to candidates `[B, K, 1, H, W]`. The first is the scaled depth itself. Mode
        `affine` has only one, the adapted depth; it needs styles `w` `[B, w_dim]` and `cameras` `[B, 8]`."""
        scaled = x = self.scale(depth)
        if self.mode == "affine":
            scaled = self._affine(scaled, w, cameras)
        if self.num_candidates == 1:
            return scaled[:, None]
        candidates = [scaled]
        for layer in self.layers:
            x = layer(x)
            candidates.append(self.head(x))
        return torch.stack(candidates, dim=1)

    @torch.no_grad()
    def differences(self, candidates: Tensor, raw_probability: float) -> dict[str, Tensor]:
        """Scalars that show whether the adaptor follows the geometry, from candidates `[B, K, 1, H, W]`: the
        correlation between the scaled depth and the other candidates, and the standard deviations of both.

        They are means over images, and over the other candidates by their probabilities in training: with a
        `raw_probability` of 2 / K the last one is never shown, and not trained. Empty without convolutions: the affine
        map of an image has the correlation 1 and a bounded factor, so that it cannot hide geometry."""
        shares = self.selection_probabilities(raw_probability)[1:]
        if not any(shares):
            return {}
        maps = candidates.flatten(2)
        maps = maps - maps.mean(dim=2, keepdim=True)
        deviations = maps.square().mean(dim=2).sqrt()  # [B, K]
        correlations = (maps[:, :1] * maps).mean(dim=2) / (deviations[:, :1] * deviations).clamp(min=1e-12)

        def adapted(values: Tensor) -> Tensor:
            means = zip(shares, values[:, 1:].mean(dim=0), strict=True)
            return sum(share * mean for share, mean in means) / sum(shares)

        return {
            "adapted_correlation": adapted(correlations),
            "depth_deviation": deviations[:, 0].mean(),
            "adapted_deviation": adapted(deviations),
        }

    def selection_probabilities(self, raw_probability: float) -> list[float]:
        """Probability of each candidate in training.

        The probabilities are linear in the index and sum to 1; the first is `raw_probability`: p_i = p_0 + i d with
        d = 2 (1 - K p_0) / (K (K - 1)). With mode `half`, the scaled depth and the last output have probability 0.5.
        """
        count = self.num_candidates
        if count == 1:
            return [1.0]
        if self.mode == "half":
            return [0.5] + [0.0] * (count - 2) + [0.5]
        step = 2 * (1 - count * raw_probability) / (count * (count - 1))
        return [raw_probability + index * step for index in range(count)]

    def select(self, candidates: Tensor, u: Tensor | None, raw_probability: float) -> Tensor:
        """Select one of the candidates `[B, K, 1, H, W]` for each image: by uniform numbers `u` `[B]` and the
        probability of the first candidate, or the last one if `u` is None (evaluation). Returns `[B, 1, H, W]`."""
        if u is None:
            return candidates[:, -1]
        index = torch.zeros_like(u, dtype=torch.int64)
        for bound in list(accumulate(self.selection_probabilities(raw_probability)))[:-1]:
            index += u >= bound
        return candidates[torch.arange(len(index), device=u.device), index]
