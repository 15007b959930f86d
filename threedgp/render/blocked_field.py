"""The field for CPUs in PyTorch: blocks of samples whose features never leave the cache.

The plain composition writes out features, hidden units and their gradients for all samples. Here a block of samples
goes all the way, and the backward pass samples and decodes it again. Coordinates come first in shape, so that
operators walk over samples. The mean over planes and the gain of the activation are put into the decoder's weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.contraction import contract, contract_gradient
from threedgp.render.field_interface import FieldGradients, FieldInputs, Needs
from threedgp.render.field_reference import EMPTY_RAW_DENSITY, LEAKY_GAIN, LEAKY_SLOPE, Decoder
from threedgp.render.plane_grids import PlaneGrids
from threedgp.render.plane_layout import zeros_like_planes
from threedgp.render.texel_rows import TexelRows
from threedgp.render.worker_threads import share

BLOCK_FLOATS = 1 << 18
"""Features, or half the hidden units, of a block: few enough for the cache, enough to outlast operators' calls."""

GRID_FLOATS, GRID_CHANNELS = 1 << 21, 16
"""An image's planes up to this size, with up to so many channels, are sampled by `grid_sample`."""

FAR = 4.0
"""A coordinate on the planes that is more than a texel beyond their border, however few texels they have."""

STOPPING_SAMPLES = 8
"""Samples of a ray between two looks at whether it is opaque."""


class _Block(NamedTuple):
    """Several images, or some rays of one."""

    images: slice
    rays: slice


def _blocks(batch: int, rays: int, samples: int, width: int) -> list[list[_Block]]:
    """Blocks of at most BLOCK_FLOATS, in lists that have no image in common, for threads.

    `samples` are those of a ray, `width` is the larger of their features and half their hidden units.
    Images are put together up to a quarter of that, so that a batch of small ones still makes several lists.
    """
    size = max(BLOCK_FLOATS // width, 1)
    group = max(size // 4 // max(rays * samples, 1), 1)
    step = max(size // max(samples, 1), 1) if group == 1 else max(rays, 1)
    return [
        [_Block(slice(b, min(b + group, batch)), slice(r, r + step)) for r in range(0, rays, step)]
        for b in range(0, batch, group)
    ]


def _sampler(planes: Tensor, gradient: Tensor | None = None) -> PlaneGrids | TexelRows:
    """The faster way to sample: `grid_sample` for few channels on planes that stay in the cache, else weighted rows.

    `grid_sample` takes time for each channel, rows take most of theirs for each sample.
    """
    fits = planes.shape[-1] <= GRID_CHANNELS and planes[:1].numel() <= GRID_FLOATS
    return PlaneGrids(planes, gradient) if fits else TexelRows(planes, gradient)


class _Rays(NamedTuple):
    """Rays in units of the half-width, `[3, B, R]` each."""

    origins: Tensor
    directions: Tensor
    contraction: bool

    @classmethod
    def of(cls, inputs: FieldInputs) -> _Rays:
        rays = (inputs.origins, inputs.directions)
        return cls(*((x / inputs.half_width).movedim(-1, 0).contiguous() for x in rays), inputs.contraction)

    def points(self, images: slice, rays: slice | Tensor, distances: Tensor) -> Tensor:
        """`[3, G, r, S]` at distances `[G, r, S]`."""
        origins, directions = (x[:, images, rays, None] for x in (self.origins, self.directions))
        return torch.addcmul(origins, directions, distances)

    def coordinates(self, points: Tensor) -> Tensor:
        """On the planes; what is far outside of them, or not a number, is brought to FAR."""
        coordinates = contract(points, dim=0) / 2 if self.contraction else points
        return coordinates.nan_to_num(nan=FAR).clamp_(-FAR, FAR)

    def point_gradient(self, points: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of points, given that of their coordinates."""
        return contract_gradient(points, gradient / 2, dim=0) if self.contraction else gradient


class _Layers(NamedTuple):
    """The decoder, taking sums over planes; its activation has no gain."""

    weight_1: Tensor
    bias_1: Tensor
    weight_2: Tensor
    bias_2: Tensor

    @classmethod
    def of(cls, decoder: Decoder) -> _Layers:
        return cls(decoder.weight_1 / 3, decoder.bias_1, decoder.weight_2 * LEAKY_GAIN, decoder.bias_2)

    @property
    def width(self) -> int:
        return max(self.weight_1.shape[1], self.weight_1.shape[0] // 2)

    def hidden(self, features: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addmm(self.bias_1, features, self.weight_1.t()), LEAKY_SLOPE)

    def outputs(self, hidden: Tensor) -> Tensor:
        return torch.addmm(self.bias_2, hidden, self.weight_2.t())

    def zeros(self) -> _Layers:
        """Gradients to add to."""
        # BLAS sums over samples far faster onto few columns that are each in one piece.
        columns = torch.zeros_like(self.weight_1.t(), memory_format=torch.contiguous_format)
        return _Layers(columns.t(), *(torch.zeros_like(w) for w in self[1:]))

    def add(self, features: Tensor, hidden: Tensor, grad_pre: Tensor, grad_out: Tensor) -> None:
        """Add gradients to these, which hold the sums so far."""
        self.weight_1.addmm_(grad_pre.t(), features)
        self.bias_1.add_(grad_pre.sum(0))
        self.weight_2.addmm_(grad_out.t(), hidden)
        self.bias_2.add_(grad_out.sum(0))

    def decoder_gradient(self) -> Decoder:
        """Gradient of the decoder, where these are the gradient of its layers."""
        return Decoder((self.weight_1 / 3).contiguous(), self.bias_1, self.weight_2 * LEAKY_GAIN, self.bias_2)

    def pre_gradient(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        """Gradient before the activation, given that of the outputs."""
        return torch.ops.aten.leaky_relu_backward(gradient @ self.weight_2, hidden, LEAKY_SLOPE, True)


def field_forward(
    inputs: FieldInputs,
    distances: Tensor,
    noise: Tensor | None,
    opaque_depth: float = 0.0,
    density_bias: float = 0.0,
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`; `opaque_depth` > 0: samples behind that depth stay empty."""
    if not distances.numel():
        return distances.new_empty(*distances.shape, 4)
    sampler = _sampler(inputs.planes.detach().to(distances.dtype))
    layers, rays = _Layers.of(inputs.decoder), _Rays.of(inputs)
    batch, count, samples = distances.shape
    out = distances.new_empty(batch, count, samples, 4)

    def evaluate(images: slice, of: slice | Tensor, t: Tensor) -> Tensor:
        coordinates = rays.coordinates(rays.points(images, of, t))
        features = sampler.sample(images, coordinates.flatten(2)).features()
        return layers.outputs(layers.hidden(features)).view(*t.shape, 4)

    def until_opaque(block: _Block) -> None:
        image, first_ray = block.images.start, block.rays.start
        t, values = distances[image, block.rays], out[image, block.rays]
        values[..., :3], values[..., 3] = 0, EMPTY_RAW_DENSITY
        gathered = t.new_zeros(t.shape[0])
        for first in range(0, samples, STOPPING_SAMPLES):
            alive = (gathered < opaque_depth).nonzero()[:, 0]
            if not len(alive):
                break
            part = slice(first, min(first + STOPPING_SAMPLES, samples))
            seen = evaluate(block.images, first_ray + alive, t[None, alive, part])[0]
            values[alive, part] = seen
            raw = seen[..., 3] + density_bias
            if noise is not None:
                raw = raw + noise[image, block.rays][alive, part]
            deltas = t[alive, first : part.stop + 1].diff(dim=-1)
            gathered[alive] += (F.softplus(raw[:, : deltas.shape[1]]) * deltas).sum(1)

    def work(k: int) -> None:
        if opaque_depth > 0:
            until_opaque(blocks[k])
        else:
            out[blocks[k]] = evaluate(*blocks[k], distances[blocks[k]])

    if opaque_depth > 0:
        step = max(BLOCK_FLOATS // layers.width // STOPPING_SAMPLES, 1)
        blocks = [_Block(slice(b, b + 1), slice(r, r + step)) for b in range(batch) for r in range(0, count, step)]
    else:
        blocks = [block for group in _blocks(*distances.shape, layers.width) for block in group]
    share(work, len(blocks))
    if noise is not None:
        out[..., 3] += noise
    return out


def field_backward(
    inputs: FieldInputs, distances: list[Tensor], gradients: list[Tensor], needs: Needs
) -> FieldGradients:
    """Gradients of the field at several sets of distances together, so that planes are zeroed and summed once."""
    dtype = inputs.origins.dtype
    grad_planes = zeros_like_planes(inputs.planes, dtype) if needs.planes else None
    sampler = _sampler(inputs.planes.detach().to(dtype), grad_planes)
    layers, rays = _Layers.of(inputs.decoder), _Rays.of(inputs)
    grad_origins, grad_directions = (torch.zeros_like(x) for x in (rays.origins, rays.directions))
    groups = _blocks(*inputs.origins.shape[:2], sum(at.shape[-1] for at in distances), layers.width)
    grad_layers = [layers.zeros() for _ in groups or [None]]

    def work(k: int) -> None:
        for block in groups[k]:
            t = torch.cat([at[block] for at in distances], dim=-1)
            if not t.numel():
                continue
            grad_out = torch.cat([g[block] for g in gradients], dim=-2).flatten(0, -2)
            points = rays.points(*block, t)
            seen = sampler.sample(block.images, rays.coordinates(points).flatten(2))
            features = seen.features()
            hidden = layers.hidden(features)
            grad_pre = layers.pre_gradient(grad_out, hidden)
            if needs.decoder:
                grad_layers[k].add(features, hidden, grad_pre, grad_out)
            if not (needs.planes or needs.rays):
                continue
            to_coordinates = seen.backward(grad_pre @ layers.weight_1, planes=needs.planes, coordinates=needs.rays)
            if needs.rays:
                to_points = rays.point_gradient(points, to_coordinates.view_as(points))
                grad_origins[:, *block] = to_points.sum(-1)
                grad_directions[:, *block] = (to_points * t).sum(-1)

    share(work, len(groups))
    grad_decoder = _Layers(*(sum(w) for w in zip(*grad_layers, strict=True))).decoder_gradient()
    grad_rays = ((g.movedim(0, -1) / inputs.half_width).contiguous() for g in (grad_origins, grad_directions))
    return FieldGradients(
        grad_planes, grad_decoder if needs.decoder else None, *(grad_rays if needs.rays else (None, None))
    )
