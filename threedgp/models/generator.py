"""The interface of all generators to training, evaluation and commands.

A generator maps a latent vector and a class to a style `w`, makes the content of a scene from `w`, and renders it from
a camera. A kind may lack parts: `has_density` is then False, or `backbone`, `camera_generator` or `depth_adaptor` None.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from threedgp.camera.geometry import Patches
from threedgp.camera.priors import prior_cameras
from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.camera_generator import CameraGenerator
from threedgp.models.depth_adaptor import DepthAdaptor
from threedgp.models.mapping import GeneratorMapping
from threedgp.runtime.counter_rng import NumberStream

Content = Any
"""Content of a batch of scenes, made from styles and rendered from cameras: tri-planes, images and so on, by kind."""
NOT_TUNED = ("mapping", "camera_generator", "depth_adaptor")
"""Parts that stay as they are when a trained generator is tuned, so that a seed keeps its style and camera."""
Schedule = Callable[[str], float]
"""Current value of a setting of `train`, by name; some follow a schedule."""


class Scenes(NamedTuple):
    """The random inputs of a batch of scenes."""

    z: Tensor
    """`[B, z_dim]`"""
    labels: Tensor | None
    """int64 `[B]`, None without classes."""
    prior_cameras: Tensor
    """`[B, 8]`"""


class Rendering(NamedTuple):
    """Rendered images."""

    rgb: Tensor
    """`[B, 3, R, R]`, about [-1, 1] (not clamped)."""
    depth: Tensor | None
    """`[B, 1, R, R]`, distance along the ray in scene units; None without density."""


class Fakes(NamedTuple):
    """Generated images or patches in training."""

    images: Tensor
    """`[B, channels, P, P]`, as the discriminator sees them, but without normals."""
    w: Tensor
    """`[B, w_dim]`"""
    penalties: Mapping[str, Tensor] = MappingProxyType({})
    """Weighted terms of the generator's loss besides the adversarial one, by name; empty without gradients."""
    stats: Mapping[str, Tensor] = MappingProxyType({})
    """Other scalars for the curves, means over the batch, by name."""


class RenderOptions(NamedTuple):
    """Options of rendering whole images."""

    cut_quantile: float = 0.0
    """Densities below this quantile of each image's samples are set to zero."""
    cut_batch: bool = False
    """The quantile is that of the samples of all images."""
    random: NumberStream | None = None
    """Numbers that jitter the samples of rays; None = the middle of every cell."""
    stop_when_opaque: bool = False
    """Skip samples with a transmittance of at most 1e-4, which is faster for solid scenes; only where no gradient is
    needed."""
    sampling_multiplier: int = 1
    """Samples per ray, in multiples of those in training; only without `random`."""


DETERMINISTIC = RenderOptions()
FOR_DISPLAY = RenderOptions(stop_when_opaque=True, sampling_multiplier=2)
"""Options for images that are viewed, not measured: with the samples of training, rays miss thin parts."""


class Generator(nn.Module):
    """Base class of all generators. A kind overrides the methods that raise NotImplementedError and that it has."""

    has_density: ClassVar[bool] = True
    """Whether scenes have a density in space, and with it cameras, depth and meshes."""
    pose_width: ClassVar[int] = 0
    """Number of values of a pose that the mapping network sees, with `model.generator.pose_conditioning`."""
    schedules: ClassVar[tuple[str, ...]] = ()
    """Schedules of `train` that `fakes` asks for."""
    content_name: ClassVar[str]
    """Kind of content, in one word."""

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        """A generator with random weights. `num_classes` is 0 for an unconditional one."""
        super().__init__()
        self.camera_config, self.model_config = camera, model
        self.num_classes, self.z_dim = num_classes, model.generator.z_dim
        self.class_probabilities: list[float] = []
        """Frequencies of the classes, for sampling; empty = all are equally frequent."""
        self.register_buffer("fov_quantiles", None, persistent=False)
        """For the prior `estimated`: quantiles of the field of view `[1 + C, Q]`, of all images and of each class."""
        self.mapping = GeneratorMapping(
            model.generator, num_classes, self.pose_width * model.generator.pose_conditioning
        )
        self.backbone: nn.Module | None = None
        self.camera_generator: CameraGenerator | None = None
        self.depth_adaptor: DepthAdaptor | None = None

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.mapping.w_average.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return self.mapping.w_average.dtype

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0, cameras: Tensor | None = None
    ) -> Tensor:
        """Map z `[B, z_dim]` and labels int64 `[B]` to w `[B, w_dim]`. With pose conditioning, w also depends on the
        prior `cameras` `[B, 8]` of the scenes; None = the frontal camera."""
        return self.mapping(z, labels, truncation)

    def prior(self, u: Tensor, labels: Tensor | None = None) -> Tensor:
        """Prior cameras `[B, 8]` of scenes with `labels` int64 `[B]`, by uniform numbers as in `prior_cameras`."""
        quantiles = self.fov_quantiles
        if quantiles is not None:
            quantiles = quantiles[:1].expand(len(u), -1) if labels is None else quantiles[1 + labels]
        return prior_cameras(self.camera_config, u, quantiles)

    def posterior(self, prior_cameras: Tensor, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Posterior cameras `[B, 8]` of prior cameras; the prior cameras themselves without a camera generator."""
        if self.camera_generator is None:
            return prior_cameras
        return self.camera_generator(prior_cameras, z, labels)

    def fakes(
        self,
        scenes: Scenes,
        patches: Patches,
        random: NumberStream,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
    ) -> Fakes:
        """Patches with `model.discriminator.patch_resolution` pixels along each side, for training.

        Args:
            scenes: B scenes.
            patches: positions of the patches; kinds that have no patches ignore them.
            random: all other random numbers.
            schedule: current values of the settings of `train` that the kind uses.
            dtype: dtype of the activations of convolutions; None = that of w.
        """
        raise NotImplementedError

    def make_content(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Content:
        """Content of B scenes from w `[B, w_dim]`; noise and dtype as in `Backbone.forward`."""
        raise NotImplementedError

    @property
    def content_shape(self) -> tuple[int, ...]:
        """Sizes of the content of one scene."""
        raise NotImplementedError

    def render(
        self, content: Content, cameras: Tensor, resolution: int, options: RenderOptions = DETERMINISTIC
    ) -> Rendering:
        """Render whole images from cameras `[B, 8]` with any resolution: deterministic, unless `options` holds random
        numbers."""
        raise NotImplementedError

    def render_parts(self, content: Content, cameras: Tensor, resolution: int, chunk: int) -> Iterator[Tensor]:
        """Render images in parts, row by row, with the options `FOR_DISPLAY`, for a viewer that may stop after each.

        Yields color and depth of successive pixels, `[B, n, 4]`, n being at most `chunk`; kinds that cannot divide an
        image yield it whole."""
        rendering = self.render(content, cameras, resolution, FOR_DISPLAY)
        yield torch.cat(rendering, dim=1).flatten(2).mT

    def density(self, content: Content, points: Tensor) -> Tensor:
        """Density `[B, N]` at points `[B, N, 3]` in scene units."""
        raise NotImplementedError

    def color(self, content: Content, points: Tensor) -> Tensor:
        """Color `[B, N, 3]`, about [-1, 1], at points `[B, N, 3]`."""
        raise NotImplementedError


def tunable_copy(generator: Generator) -> Generator:
    """A copy of which all weights need gradients, except those of the parts `NOT_TUNED`."""
    copied = copy.deepcopy(generator)
    for name, weight in copied.named_parameters():
        weight.requires_grad_(not name.startswith(NOT_TUNED))
    return copied
