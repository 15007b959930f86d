"""Inputs of the benchmarks: scenes with cameras of the published prior, and images like photographs."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threedgp.camera.geometry import rays
from threedgp.render import Decoder, RayRandomness, RaySettings


class Workload(NamedTuple):
    """Sizes of one benchmark."""

    images: int
    side: int
    """Rays along each side of an image."""
    coarse: int
    fine: int
    plane: int
    """Texels along each side of a plane."""
    channels: int
    hidden: int

    @property
    def samples(self) -> int:
        """Samples of all rays, both passes."""
        return self.images * self.side**2 * (self.coarse + self.fine)


WORKLOADS = {
    "published": Workload(16, 64, 32, 32, 512, 32, 64),
    "published-4": Workload(4, 64, 32, 32, 512, 32, 64),
    "inference": Workload(1, 256, 64, 64, 512, 32, 64),
    "toy": Workload(16, 16, 8, 8, 32, 8, 16),
}
SETTINGS = RaySettings(near=0.75, far=1.25, half_width=0.5)


class Scene(NamedTuple):
    """Inputs of a renderer, and the gradients of its outputs."""

    image: Tensor
    """Planes as a channels-last backbone returns them, `[B, H, W, 3C]`."""
    decoder: Decoder
    origins: Tensor
    directions: Tensor
    randomness: RayRandomness
    grad_rgb: Tensor
    grad_depth: Tensor


def make_scene(work: Workload, device: str, dtype: torch.dtype, density: float = 0.0) -> Scene:
    """Scenes of random planes and whole images (no patches: the worst case for locality) from cameras of the prior.

    Args:
        work: sizes.
        device: of all tensors.
        dtype: of the planes.
        density: added to the decoder's raw density; more makes scenes opaque.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    b, quarter = work.images, math.pi / 4
    cameras = torch.stack(
        [
            uniform(-2 * quarter, 2 * quarter, b),
            uniform(quarter, 3 * quarter, b),
            torch.zeros(b),
            uniform(10, 45, b),
            torch.ones(b),
            uniform(-math.pi, math.pi, b),
            torch.acos(uniform(-1, 1, b)),
            uniform(0, 0.2, b),
        ],
        dim=1,
    )
    origins, directions = (x.to(device).contiguous() for x in rays(cameras, work.side))
    shapes = ((work.hidden, work.channels), (work.hidden,), (4, work.hidden), (4,))
    decoder = Decoder(*(normal(*shape) / shape[-1] ** 0.5 for shape in shapes))
    decoder.bias_2[3] += density
    count = work.side**2
    image = torch.empty(b, work.plane, work.plane, 3 * work.channels, device=device, dtype=dtype)
    for k in range(b):
        image[k] = normal(work.plane, work.plane, 3 * work.channels).to(dtype)
    return Scene(
        image,
        decoder,
        origins,
        directions,
        RayRandomness(uniform(0, 1, b, count, work.coarse).to(device), uniform(0, 1, b, count, work.fine).to(device)),
        normal(b, count, 3),
        normal(b, count),
    )


def textured(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """RGB noise with the spectrum of photographs, about 1 / frequency: `[height, width, 3]`."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    cell = max(height, width)
    while cell >= 1:
        shape = (height // cell + 2, width // cell + 2)
        gray, color = random.normal(size=(*shape, 1)), random.normal(size=(*shape, 3))
        layer = (gray + 0.3 * color).astype(np.float32)  # photographs differ more in brightness than in color
        image += cell**0.7 * cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        cell //= 2
    image = (image - image.mean()) / image.std() * 55 + 118
    return np.clip(image, 0, 255).astype(np.uint8)
