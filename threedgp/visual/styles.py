"""Styles w of scenes: truncated, swept, and interpolated. All are functions of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from threedgp.models.generator import Generator
from threedgp.models.sampler import Scenes, draw_scenes

CENTRE_SAMPLES = 4096
"""Latent vectors whose styles are averaged for the centre of a class: its error is 1/64 of the spread of w."""

TruncateTowards = Literal["all", "class"]
"""`all`: the running average of w that training kept, over all classes (3DGP). `class`: the mean w of the scene's own
class, so that strong truncation gives the typical scene of the class and not that of the data set."""


@torch.inference_mode()
def class_centre(generator: Generator, label: int) -> Tensor:
    """Mean style `[w_dim]` of a class, over `CENTRE_SAMPLES` latent vectors that are always the same."""
    index = torch.arange(CENTRE_SAMPLES, device=generator.mapping.w_average.device)
    scenes = draw_scenes(generator, 0, "class centre", index, torch.full_like(index, label))
    return generator.map(scenes.z, scenes.labels).double().mean(dim=0).to(generator.mapping.w_average.dtype)


def truncation_centres(generator: Generator, labels: Tensor | None, towards: TruncateTowards) -> Tensor:
    """What truncation pulls styles to, `[B or 1, w_dim]`; without classes the running average in both cases.

    Args:
        labels: of the scenes, int64 `[B]`.
    """
    if towards == "all" or labels is None:
        return generator.mapping.w_average[None]
    known = {label: class_centre(generator, label) for label in sorted(set(labels.tolist()))}
    return torch.stack([known[label] for label in labels.tolist()])


@torch.inference_mode()
def scene_styles(
    generator: Generator, scenes: Scenes, truncation: float = 1.0, towards: TruncateTowards = "all"
) -> Tensor:
    """Styles `[B, w_dim]` of scenes: 1 = none of the truncation, 0 = the centre itself."""
    w = generator.map(scenes.z, scenes.labels)
    return w if truncation == 1 else truncation_centres(generator, scenes.labels, towards).lerp(w, truncation)


def truncation_sweep(
    generator: Generator, scenes: Scenes, truncations: Sequence[float], towards: TruncateTowards = "all"
) -> Tensor:
    """Styles `[T, B, w_dim]` of the same scenes under each truncation."""
    return torch.stack([scene_styles(generator, scenes, truncation, towards) for truncation in truncations])


def interpolate_styles(anchors: Tensor, frames: int, *, closed: bool = True) -> Tensor:
    """Styles `[F, w_dim]` on straight lines from each of `anchors` `[K, w_dim]` to the next, in equal times.

    w is where straight lines make sense: StyleGAN's mapping unwraps the sphere of z. With classes the lines lead from
    one class to the next.

    Args:
        closed: go back to the first anchor; the frame after the last would be the first. Otherwise both ends are
            included.
    """
    if closed:
        anchors = torch.cat([anchors, anchors[:1]])
    steps = len(anchors) - 1
    place = torch.arange(frames, dtype=torch.float64) * (steps / max(frames if closed else frames - 1, 1))
    start = place.floor().clamp(max=max(steps - 1, 0)).long().to(anchors.device)
    share = (place.to(anchors.device) - start).to(anchors.dtype)[:, None]
    return torch.lerp(anchors[start], anchors[(start + 1).clamp(max=steps)], share)
