"""The baseline of `train_step.py`: the same networks and the same step, written the straightforward way.

Each sample has its own modulated weights, in grouped convolutions; the filter is a plain depthwise convolution; planes
are NCHW and sampled with `grid_sample`; fakes and reals pass through the discriminator one after the other; memory is
contiguous; the optimizer is PyTorch's default. Eager mode, float32. Random numbers, losses and schedules are those of
the package.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from naive_render import naive_render
from torch import Tensor, nn

from threedgp.camera.geometry import Patches, rays
from threedgp.models.backbone import OutputLayer, SynthesisBlock, SynthesisLayer
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Scenes
from threedgp.models.layers import EqualizedConv, activate
from threedgp.models.triplane import Synthesis, TriplaneGenerator
from threedgp.render import RayRandomness
from threedgp.training.step import Trainer


def _filter(x: Tensor, *, gain: float = 1.0, padding: int) -> Tensor:
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (torch.outer(taps, taps) * (gain / 64)).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def _upsample(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    spread = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    return _filter(F.pad(spread.reshape(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)), gain=4.0, padding=0)


def _convolve_per_sample(x: Tensor, weight: Tensor, *, up: bool = False) -> Tensor:
    """Convolution of each sample with its own weight `[B, out, in, k, k]`."""
    batch = x.shape[0]
    x = x.reshape(1, -1, *x.shape[2:])
    if up:
        x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    return x.reshape(batch, -1, *x.shape[2:])


class NaiveSynthesisLayer(SynthesisLayer):
    """Modulates and demodulates weights."""

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        weight = self.weight * self.affine(w)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = _convolve_per_sample(x, weight, up=self.up)
        if self.up:
            x = _filter(x, gain=4.0, padding=1)
        if self.noise_strength is not None:
            x = x + (self.noise_const if noise is None else noise) * self.noise_strength
        return activate(x + self.bias[:, None, None], "leaky_relu") * math.sqrt(2)


class NaiveOutputLayer(OutputLayer):
    """Modulates weights."""

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        weight = self.weight * (self.affine(w) * self.style_gain)[:, None, :, None, None]
        return _convolve_per_sample(x, weight) + self.bias[:, None, None]


class NaiveSynthesisBlock(SynthesisBlock):
    """Inserts zeros between the pixels of the skip image."""

    def forward(
        self, x: Tensor, image: Tensor | None, w: Tensor, noise0: Tensor | None, noise1: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous() if self.first else self.conv0(x, w, noise0)
        x = self.conv1(x, w, noise1)
        output = self.output(x, w)
        return x, output if image is None else _upsample(image) + output


class NaiveConv(EqualizedConv):
    """Filters at full resolution, then convolves with a stride; applies the gain to the result."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (self.weight_gain / self.bias_gain)
        if self.down:
            x = F.conv2d(_filter(x, padding=self.padding + 1), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.bias is not None:
            x = x + self.bias[:, None, None]
        return activate(x, self.activation) * self.bias_gain


class NaiveGenerator(TriplaneGenerator):
    """Renders NCHW planes with `grid_sample`."""

    def forward(
        self,
        scenes: Scenes,
        patches: Patches,
        resolution: int,
        randomness: RayRandomness,
        noise: list[Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Synthesis:
        z, labels, prior_cameras = scenes
        w = self.map(z, labels)
        cameras = self.posterior(prior_cameras, z, labels)
        planes = self.backbone(w, noise).contiguous().unflatten(1, (3, -1))
        origins, directions = rays(cameras, resolution, patches)
        rgb, depth = naive_render(planes, self.decoder.effective(), origins, directions, randomness, self.ray_settings)
        rgb = rgb.transpose(1, 2).unflatten(2, (resolution, resolution))
        depth = depth.reshape(-1, 1, resolution, resolution)
        candidates = None if self.depth_adaptor is None else self.depth_adaptor(depth)
        return Synthesis(rgb, depth, candidates, w, cameras, planes)


class NaiveDiscriminator(Discriminator):
    """Evaluates fakes and reals one after the other."""

    def forward(
        self, images: Tensor, patch: Tensor, labels: Tensor | None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor | None]:
        parts = zip(
            images.split(self.piece),
            patch.split(self.piece),
            labels.split(self.piece) if labels is not None else [None] * len(images),
            strict=False,
        )
        logits, features = zip(*(super(NaiveDiscriminator, self).forward(*part) for part in parts), strict=True)
        return torch.cat(logits), None if features[0] is None else torch.cat(features)


_NAIVE = {
    SynthesisLayer: NaiveSynthesisLayer,
    OutputLayer: NaiveOutputLayer,
    SynthesisBlock: NaiveSynthesisBlock,
    EqualizedConv: NaiveConv,
    TriplaneGenerator: NaiveGenerator,
    Discriminator: NaiveDiscriminator,
}


def make_naive(trainer: Trainer) -> Trainer:
    """Makes a trainer that has not taken a step yet use the straightforward implementation."""
    if trainer.config.train.density_noise.start or trainer.config.train.density_noise.end:
        raise ValueError("train.density_noise: the naive renderer does not support it; set it to 0 to compare")
    networks: tuple[nn.Module, ...] = (trainer.generator, trainer.discriminator, trainer.average)
    for network in networks:
        network.to(memory_format=torch.contiguous_format)
        for module in network.modules():
            module.__class__ = _NAIVE.get(type(module), type(module))
    trainer.discriminator.piece = trainer.piece
    for name in ("generator", "discriminator"):
        group = getattr(trainer, f"{name}_optimizer").param_groups[0]
        parameters = getattr(trainer, name).parameters()
        optimizer = torch.optim.Adam(parameters, lr=group["lr"], betas=group["betas"], eps=group["eps"])
        setattr(trainer, f"{name}_optimizer", optimizer)
    return trainer
