"""Patch-wise discriminator with two heads: real or fake, and the features of a classifier (3DGP, section 3.4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.config import KINDS, ModelConfig
from threedgp.models.layers import EqualizedConv, EqualizedLinear, own_seed, scale_channels
from threedgp.models.mapping import ConditionMapping, LabelEmbedding

NUM_FREQUENCIES = 10
LOOKUP_WIDTH = 256
LOOKUP_STEPS = 1000
NUM_PARAMETERS = 3


class PatchEncoding(nn.Module):
    """Encoding of patch scale, x offset and y offset.

    Each value v is encoded as sin(1000 v f_k) and cos(1000 v f_k) with f_k = 2^k pi / 1024, k < 10, and with `lookup`
    as a learned embedding of round(1000 v), from one table for all three.
    """

    def __init__(self, *, lookup: bool = True) -> None:
        super().__init__()
        self.lookup = nn.Embedding(LOOKUP_STEPS + 1, LOOKUP_WIDTH) if lookup else None
        self.width = NUM_PARAMETERS * (2 * NUM_FREQUENCIES + LOOKUP_WIDTH * lookup)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(NUM_FREQUENCIES) / 1024, persistent=False)

    def forward(self, patch: Tensor) -> Tensor:
        """Map `[B, 3]` fractions in [0, 1] to `[B, width]`: 828, or 60 without the embedding."""
        scaled = patch * LOOKUP_STEPS
        angles = scaled[..., None] * self.frequencies
        parts = [angles.sin(), angles.cos()]
        if self.lookup is not None:
            parts.append(self.lookup(scaled.round().long().clamp(0, LOOKUP_STEPS)))
        return torch.cat(parts, dim=-1).flatten(1)


class ResidualBlock(nn.Module):
    """StyleGAN2 residual block; on patches, their encoding scales the input channels of its second convolution.

    The residual architecture is that of Karras et al. 2020, figure 7c; the modulation by the patch parameters that of
    EpiGRAF (Skorokhodov et al. 2022, section 3.2).
    """

    def __init__(self, in_channels: int, out_channels: int, style_width: int, *, down: bool) -> None:
        super().__init__()
        self.skip = EqualizedConv(in_channels, out_channels, 1, bias=False, down=down)
        self.conv0 = EqualizedConv(in_channels, in_channels, 3, activation="leaky_relu")
        self.affine = EqualizedLinear(style_width, in_channels) if style_width else None
        self.conv1 = EqualizedConv(in_channels, out_channels, 3, activation="leaky_relu", down=down)

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        """Map x `[B, in, H, W]` and style `[B, style_width]` to `[B, out, H, W]`, or half of that with `down`."""
        y = self.conv0(x)
        if self.affine is not None:
            y = scale_channels(y, 1 + torch.tanh(self.affine(style)))
        y = self.conv1(y)
        return (self.skip(x) + y) * math.sqrt(0.5)  # keeps the variance


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append a channel: the standard deviation over groups of neighboring samples, averaged over channels and pixels
    (Karras et al. 2018, section 3).

    Groups are contiguous, as the samples that share a patch scale (the published code uses strided groups, which mix
    scales if a batch has several).
    """
    batch, _, height, width = x.shape
    group = math.gcd(group, batch)
    grouped = x.reshape(batch // group, group, -1).to(torch.promote_types(x.dtype, torch.float32))
    deviation = (grouped - grouped.mean(dim=1, keepdim=True)).square().mean(dim=1).add(1e-8).sqrt().mean(dim=1)
    deviation = deviation.repeat_interleave(group).reshape(batch, 1, 1, 1)
    return torch.cat([x, deviation.to(x.dtype).expand(-1, -1, height, width)], dim=1)


def _of_size(images: Tensor, size: int) -> Tensor:
    """Images `[B, C, P, P]` that were reduced to `size` pixels along each side and enlarged again."""
    small = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return F.interpolate(small, images.shape[2:], mode="bilinear")


class Discriminator(nn.Module):
    """Judges a patch of color and depth, given where it was cut and the class; or whole images, given the class."""

    def __init__(self, model: ModelConfig, image_resolution: int, num_classes: int, num_features: int) -> None:
        """
        Args:
            model: sizes and kind. Some kinds use whole images, whose position is not encoded. With dual discrimination
                (EG3D, section 4.3), the enlarged rendering follows the final image.
            image_resolution: side of whole images.
            num_classes: 0 = unconditional.
            num_features: width of the classifier features to predict, 0 = none.
        """
        super().__init__()
        config, patches = model.discriminator, KINDS[model.kind].patches
        self.upsampling, self.dual = model.generator.upsampling, KINDS[model.kind].dual
        image_channels = 3 + model.depth + 3 * config.normals + 3 * self.dual
        self.group = config.minibatch_std_group
        self.num_classes = num_classes
        style_width = config.patch_encoding_width if patches else 0
        self.patch_encoding = self.style_mapping = None
        if patches:
            with own_seed("condition of the blocks"):
                self.patch_encoding = PatchEncoding(lookup=config.conditioning == "published")
                self.style_mapping = ConditionMapping(self.patch_encoding.width, style_width)

        def channels(resolution: int) -> int:
            return min(config.channel_base // resolution, config.channel_max)

        # As deep as a discriminator of whole images: the first blocks do not downsample.
        keep = int(math.log2(image_resolution // config.patch_resolution))
        resolutions = [2**power for power in range(int(math.log2(image_resolution)), 2, -1)]
        with own_seed("first layer"):
            self.from_rgb = EqualizedConv(image_channels, channels(image_resolution), 1, activation="leaky_relu")
        self.blocks = nn.ModuleList(
            ResidualBlock(channels(size), channels(size // 2), style_width, down=index >= keep)
            for index, size in enumerate(resolutions)
        )
        last = channels(4)
        self.conv = EqualizedConv(last + 1, last, 3, activation="leaky_relu")
        self.hidden = EqualizedLinear(last * 16, last, activation="leaky_relu")
        self.output = EqualizedLinear(last, last if patches or num_classes else 1)
        # A class beside the position of a patch: see `DiscriminatorConfig.conditioning`.
        balanced = config.conditioning == "balanced" and patches and num_classes > 0
        conditions = (0 if balanced else num_classes) + (self.patch_encoding.width if patches else 0)
        with own_seed("condition of the output"):
            self.embed_label = LabelEmbedding(num_classes, last) if balanced else None
            self.head_mapping = ConditionMapping(conditions, last) if conditions else None
        self.feature_head = None
        if num_features:
            hidden = EqualizedLinear(last * 16, last, activation="leaky_relu")
            self.feature_head = nn.Sequential(hidden, EqualizedLinear(last, num_features))

    def forward(
        self, images: Tensor, patch: Tensor, labels: Tensor | None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits `[B]` and predicted classifier features `[B, num_features]` (None without that head).

        Args:
            images: in [-1, 1], color `[B, 3, P, P]`, color and depth `[B, 4, P, P]`, color, depth and normals
                `[B, 7, P, P]`, or with dual discrimination two colors `[B, 6, P, P]`.
            patch: scale, x offset, y offset, `[B, 3]`; ignored without patches.
            labels: int64 `[B]`, None without classes.
            dtype: dtype of the activations of convolutions; None = that of the images.
        """
        encoding = None if self.patch_encoding is None else self.patch_encoding(patch)
        style = None if self.style_mapping is None else self.style_mapping(encoding)
        x = self.from_rgb(images.to(dtype or images.dtype).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x, style)
        x = self.conv(minibatch_std(x, self.group)).flatten(1).to(self.output.weight.dtype)
        logits = self.output(self.hidden(x))
        if self.head_mapping is not None:
            projection = self._projection(encoding, labels)
            logits = (logits * projection).sum(dim=1) / math.sqrt(projection.shape[1])
        return logits.reshape(len(images)), None if self.feature_head is None else self.feature_head(x)

    def real_input(self, images: Tensor, grown: float) -> Tensor:
        """Real images `[B, C, P, P]` as the discriminator sees them. While only the fraction `grown` of the generator's
        2D blocks is in use, details that these cannot make are removed. With dual discrimination, channels of the same
        images follow, reduced to the size of the rendering and enlarged again."""
        if grown < 1:
            level = grown * math.log2(self.upsampling)
            coarse, fine = (
                _of_size(images, images.shape[-1] * 2**step // self.upsampling) for step in (int(level), int(level) + 1)
            )
            images = coarse.lerp(fine, level - int(level))
        if not self.dual:
            return images
        return torch.cat([images, _of_size(images, images.shape[-1] // self.upsampling)], dim=1)

    def _projection(self, encoding: Tensor | None, labels: Tensor | None) -> Tensor:
        """The vector of a class and a position, `[B, C]`, whose product with features is the logit (Miyato and Koyama
        2018)."""
        if self.embed_label is not None:
            return self.head_mapping(encoding, self.embed_label(labels))
        conditions = [] if encoding is None else [encoding]
        if self.num_classes:
            conditions.insert(0, F.one_hot(labels, self.num_classes).to(self.output.weight.dtype))
        return self.head_mapping(torch.cat(conditions, dim=1))
