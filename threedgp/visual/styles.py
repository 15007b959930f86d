"""Styles w of scenes: truncated and interpolated. All are functions of seeds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from threedgp.models.generator import Content, Generator
from threedgp.models.sampler import Scenes, draw_scenes

CENTER_SAMPLES = 4096
"""Number of latent vectors averaged for the center of a class; its error is 1/64 of the spread of w."""
TruncateTowards = Literal["all", "class"]
"""`all`: the running average of w during training, over all classes (3DGP). `class`: the mean w of the scene's own
class, so that strong truncation gives the typical scene of the class and not of the data set."""


@torch.inference_mode()
def class_center(generator: Generator, label: int) -> Tensor:
    """Mean style `[w_dim]` of a class over `CENTER_SAMPLES` fixed latent vectors."""
    index = torch.arange(CENTER_SAMPLES, device=generator.device)
    scenes = draw_scenes(generator, 0, "class center", index, torch.full_like(index, label))
    return generator.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras).double().mean(dim=0).to(generator.dtype)


@torch.inference_mode()
def scene_styles(
    generator: Generator, scenes: Scenes, truncation: float = 1.0, towards: TruncateTowards = "all"
) -> Tensor:
    """Styles `[B, w_dim]` of scenes; truncation 1 changes nothing, 0 gives the center itself.

    Without classes, both values of `towards` mean the running average.
    """
    z, labels, cameras = scenes
    if truncation == 1 or towards == "all" or labels is None:
        return generator.map(z, labels, truncation, cameras)
    centers = {label: class_center(generator, label) for label in sorted(set(labels.tolist()))}
    own = torch.stack([centers[label] for label in labels.tolist()])
    return own.lerp(generator.map(z, labels, cameras=cameras), truncation)


@torch.inference_mode()
def scene_content(
    generator: Generator, scenes: Scenes, truncation: float = 1.0, towards: TruncateTowards = "all"
) -> Content:
    """Content of scenes, as `Generator.render` takes it."""
    return generator.make_content(scene_styles(generator, scenes, truncation, towards))


def interpolate_styles(anchors: Tensor, frames: int) -> Tensor:
    """Styles `[F, w_dim]` along straight lines from each of `anchors` `[K, w_dim]` to the next and back to the first.

    Lines are straight in w, since the mapping network unwarps the sphere of z (Karras et al. 2019, section 4). The
    frame after the last would be the first again.
    """
    place = torch.arange(frames, dtype=torch.float64, device=anchors.device) * (len(anchors) / frames)
    start = place.floor().long().clamp(max=len(anchors) - 1)
    share = (place - start).to(anchors.dtype)[:, None]
    return torch.lerp(anchors[start], anchors.roll(-1, dims=0)[start], share)
