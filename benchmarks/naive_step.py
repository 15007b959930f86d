"""The baseline of `train_step.py`: the same networks and the same step, written the straightforward way.

Modulated weights of their own for every sample and grouped convolutions; transposed convolution and then the filter as
a plain depthwise convolution; zeros put between pixels; `grid_sample` rendering on NCHW planes; one pass of the
discriminator for fakes and one for reals; cameras parameter by parameter; contiguous memory; PyTorch's optimiser as it
comes, which on a CPU loops over parameters. Eager, float32. Random numbers, losses and schedules are the package's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from naive_render import naive_render
from torch import Tensor, nn

from threedgp.camera.geometry import image_plane, spherical_to_cartesian
from threedgp.camera.priors import LOOK_AT_PITCH_BOUNDS, LOOK_AT_YAW_BOUNDS
from threedgp.models.backbone import Backbone, Factors, OutputLayer, SynthesisBlock, SynthesisLayer
from threedgp.models.camera_generator import PITCH_INSET, CameraGenerator
from threedgp.models.depth_adaptor import DepthAdaptor
from threedgp.models.discriminator import Discriminator, ResidualBlock
from threedgp.models.generator import Generator, Synthesis
from threedgp.models.layers import EqualizedConv, EqualizedLinear, activate
from threedgp.render import RayRandomness
from threedgp.training.step import Trainer


def _filtered(x: Tensor, *, gain: float, padding: int, stride: int = 1) -> Tensor:
    line = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line)
    kernel = (kernel * (gain / kernel.sum())).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def _doubled(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    spread = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    return _filtered(F.pad(spread.reshape(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)), gain=4.0, padding=0)


def _per_sample(x: Tensor, weight: Tensor, *, up: bool, padding: int) -> Tensor:
    """Convolution of each sample with its own weight `[B, out, in, k, k]`."""
    batch = x.shape[0]
    x = x.reshape(1, -1, *x.shape[2:])
    if up:
        weight = weight.transpose(1, 2).flatten(0, 1)
        x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=padding, groups=batch)
    return x.reshape(batch, -1, *x.shape[2:])


class NaiveSynthesisLayer(SynthesisLayer):
    """Modulates and demodulates weights."""

    def forward(self, x: Tensor, factors: Factors, noise: Tensor | None) -> Tensor:
        weight = self.weight[None] * factors.style[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = _per_sample(x, weight, up=self.up, padding=1)
        if self.up:
            x = _filtered(x, gain=4.0, padding=1)
        if self.noise_strength is not None:
            x = x + (self.noise_const if noise is None else noise) * self.noise_strength
        return activate(x + self.bias[:, None, None], "leaky_relu") * math.sqrt(2)


class NaiveOutputLayer(OutputLayer):
    """Modulates weights."""

    def forward(self, x: Tensor, factors: Factors) -> Tensor:
        styles = factors.style * self.style_gain
        weight = self.weight[None] * styles[:, None, :, None, None]
        return _per_sample(x, weight, up=False, padding=0) + self.bias[:, None, None]


class NaiveSynthesisBlock(SynthesisBlock):
    """Puts zeros between the pixels of the image below."""

    def forward(
        self, x: Tensor, image: Tensor | None, factors: Iterator[Factors], noise: Iterator[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous() if self.first else self.conv0(x, next(factors), next(noise))
        x = self.conv1(x, next(factors), next(noise))
        output = self.output(x, next(factors))
        return x, output if image is None else _doubled(image) + output


class NaiveBackbone(Backbone):
    """Each layer makes its own styles."""

    def factors(self, w: Tensor) -> list[Factors]:
        return [Factors(layer.affine(w)) for block in self.blocks for layer in block.layers()]


def _activated(layer: EqualizedConv | EqualizedLinear, x: Tensor) -> Tensor:
    x = activate(x, layer.activation)
    return x * math.sqrt(2) if layer.activation == "leaky_relu" else x


class NaiveLinear(EqualizedLinear):
    """Scales what comes out of the activation."""

    def forward(self, x: Tensor) -> Tensor:
        gain = math.sqrt(2) if self.activation == "leaky_relu" else 1.0
        weight, bias = self.weight * (self.weight_gain / gain), self.bias * (self.bias_gain / gain)
        return _activated(self, F.linear(x, weight, bias))


class NaiveConv(EqualizedConv):
    """Filters, then convolves, then scales what comes out of the activation."""

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        weight, padding = self.weight * (self.weight_gain / self.bias_gain), self.weight.shape[-1] // 2
        if not self.down:
            x = F.conv2d(x, weight, padding=padding)
        elif padding == 0:
            x = F.conv2d(_filtered(x, gain=1.0, padding=1, stride=2), weight)
        else:
            x = F.conv2d(_filtered(x, gain=1.0, padding=padding + 1), weight, stride=2)
        if self.bias is not None:
            x = x + self.bias[:, None, None]
        x = _activated(self, x)
        return x if scale is None else x * scale[:, :, None, None]


class NaiveResidualBlock(ResidualBlock):
    """Scales the sum."""

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return super().forward(x, scale) * math.sqrt(0.5)


class NaiveDepthAdaptor(DepthAdaptor):
    """Applies the head to each layer's result."""

    def forward(self, depth: Tensor) -> Tensor:
        x = self.scale(depth)
        candidates = [x]
        if self.mode != "off":
            for layer in self.layers:
                x = layer(x)
                candidates.append(self.head(x))
        return torch.stack(candidates, dim=1)


def _to_unit(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    span = bounds[1] - bounds[0]
    return (x - bounds[0]) / span if span > 0 else torch.zeros_like(x)


def _from_raw(x: Tensor, bounds: tuple[float, float], inset: float = 0.0) -> Tensor:
    low, high = bounds[0] + inset, bounds[1] - inset
    return torch.sigmoid(x) * (high - low) + low


class NaiveCameraGenerator(CameraGenerator):
    """Takes parameters one by one."""

    def forward(self, prior: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        config = self.config
        yaw, pitch, roll, fov, radius, look_yaw, look_pitch, look_radius = prior.unbind(-1)
        inputs = [_to_unit(yaw, config.yaw), _to_unit(pitch, config.pitch), roll, radius]
        origin = self.origin(torch.stack(inputs, dim=1), None, labels)
        inputs = [
            _to_unit(fov, config.fov),
            origin[:, 3],
            _to_unit(look_yaw, LOOK_AT_YAW_BOUNDS),
            _to_unit(look_pitch, LOOK_AT_PITCH_BOUNDS),
            _to_unit(look_radius, config.look_at_radius),
        ]
        look_at = self.look_at(torch.cat([origin[:, :3], torch.stack(inputs, dim=1)], dim=1), z, labels)
        outputs = [
            _from_raw(origin[:, 0], config.yaw),
            _from_raw(origin[:, 1], config.pitch, PITCH_INSET),
            torch.zeros_like(roll),
            _from_raw(look_at[:, 0], config.fov),
            radius,
            _from_raw(look_at[:, 1], LOOK_AT_YAW_BOUNDS),
            _from_raw(look_at[:, 2], LOOK_AT_PITCH_BOUNDS, PITCH_INSET),
            _from_raw(look_at[:, 3], config.look_at_radius),
        ]
        return torch.stack(outputs, dim=1)


def _rays(cameras: Tensor, resolution: int, scales: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """By way of 4x4 matrices."""
    yaw, pitch, roll, fov, radius, look_yaw, look_pitch, look_radius = cameras.unbind(-1)
    origin = spherical_to_cartesian(yaw, pitch, radius)
    forward = F.normalize(spherical_to_cartesian(look_yaw, look_pitch, look_radius) - origin, dim=-1)
    up = torch.zeros_like(forward)
    up[..., 1] = 1
    left = F.normalize(torch.linalg.cross(up, forward), dim=-1)
    right, up = -left, F.normalize(torch.linalg.cross(forward, left), dim=-1)
    cos, sin = torch.cos(roll)[..., None], torch.sin(roll)[..., None]
    pose = torch.stack([cos * right + sin * up, cos * up - sin * right, -forward, origin], dim=-1)
    last = torch.zeros_like(pose[..., :1, :])
    last[..., 3] = 1
    pose = torch.cat([pose, last], dim=-2)
    plane = image_plane(resolution, scales, offsets)
    depth = -1 / torch.tan(torch.deg2rad(fov) / 2)
    directions = torch.cat([plane, depth[:, None, None].expand(-1, plane.shape[1], 1)], dim=-1)
    directions = F.normalize(directions, dim=-1) @ pose[:, :3, :3].transpose(1, 2)
    return pose[:, None, :3, 3].expand_as(directions), directions


class NaiveGenerator(Generator):
    """Renders with `grid_sample` on NCHW planes."""

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None,
        prior_cameras: Tensor,
        scales: Tensor,
        offsets: Tensor,
        resolution: int,
        randomness: RayRandomness,
        noise: list[Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Synthesis:
        w = self.map(z, labels)
        cameras = self.posterior(prior_cameras, z, labels)
        planes = self.backbone(w, noise).contiguous().unflatten(1, (3, -1))
        origins, directions = _rays(cameras, resolution, scales, offsets)
        rgb, depth = naive_render(planes, self.decoder.effective(), origins, directions, randomness, self.ray_settings)
        rgb = rgb.transpose(1, 2).unflatten(2, (resolution, resolution))
        depth = depth.reshape(-1, 1, resolution, resolution)
        candidates = None if self.depth_adaptor is None else self.depth_adaptor(depth)
        return Synthesis(rgb, depth, candidates, w, cameras)


class NaiveDiscriminator(Discriminator):
    """Judges each half of a batch of fakes and reals by itself; each block makes its own scales."""

    def _scales(self, style: Tensor) -> list[Tensor]:
        return [1 + torch.tanh(block.affine(style)) for block in self.blocks]

    def forward(
        self, images: Tensor, patch: Tensor, labels: Tensor | None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if len(images) == self.piece:
            return super().forward(images, patch, labels)
        halves = zip(
            images.split(self.piece),
            patch.split(self.piece),
            labels.split(self.piece) if labels is not None else (None, None),
            strict=True,
        )
        logits, features = zip(*(super(NaiveDiscriminator, self).forward(*half) for half in halves), strict=True)
        return torch.cat(logits), None if features[0] is None else torch.cat(features)


_NAIVE = {
    SynthesisLayer: NaiveSynthesisLayer,
    OutputLayer: NaiveOutputLayer,
    SynthesisBlock: NaiveSynthesisBlock,
    Backbone: NaiveBackbone,
    EqualizedConv: NaiveConv,
    EqualizedLinear: NaiveLinear,
    ResidualBlock: NaiveResidualBlock,
    DepthAdaptor: NaiveDepthAdaptor,
    CameraGenerator: NaiveCameraGenerator,
    Generator: NaiveGenerator,
    Discriminator: NaiveDiscriminator,
}


def make_naive(trainer: Trainer) -> Trainer:
    """The same trainer, from now on the straightforward way. It has taken no step yet."""
    if trainer.config.train.density_noise.start or trainer.config.train.density_noise.end:
        raise ValueError("train.density_noise: the naive renderer has none; switch it off to compare")
    networks: tuple[nn.Module, ...] = (trainer.generator, trainer.discriminator, trainer.average)
    for network in networks:
        network.to(memory_format=torch.contiguous_format)
        for module in network.modules():
            module.__class__ = _NAIVE.get(type(module), type(module))
    trainer.discriminator.piece = trainer.piece
    if trainer.generator.camera_generator is not None:
        trainer.generator.camera_generator.config = trainer.config.camera
    for name in ("generator", "discriminator"):
        optimizer = getattr(trainer, f"{name}_optimizer")
        group = optimizer.param_groups[0]
        parameters = getattr(trainer, name).parameters()
        plain = torch.optim.Adam(parameters, lr=group["lr"], betas=group["betas"], eps=group["eps"])
        setattr(trainer, f"{name}_optimizer", plain)
    return trainer
