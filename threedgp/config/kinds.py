"""The kinds of models, and which parts each of them has. `threedgp.models.initialization` has their networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from threedgp.config.root import Config


class Kind(NamedTuple):
    """Parts that a kind of model has."""

    depth: bool = True
    """Depth for the discriminator, and the depth adaptor."""
    learned_cameras: bool = True
    distillation: bool = True
    patches: bool = True
    """Whether the discriminator sees patches; otherwise whole images."""
    recompute: bool = True
    """Whether the backbone can compute its activations again."""
    image_backbone: bool = False
    """Whether the backbone makes the image itself."""
    upsampling: bool = False
    """Whether features are rendered, and 2D convolutions make an image of them."""
    dual: bool = False
    """Whether the discriminator sees the rendered image beside the final one."""
    pose_conditioning: bool = False
    density_regularization: bool = False
    nerf_path_regularization: bool = False
    growing: bool = False
    """Whether training can add the 2D convolutions one after the other."""
    volume: bool = False
    """Whether the backbone makes a volume, of side `plane_resolution`."""
    published_planes: bool = False
    """Whether the planes can be those of the published models."""
    novel_view: bool = False
    """Whether training can compare views from outside of the prior with views at its edge."""
    background: bool = False
    """Whether there can be planes of a background."""


KINDS = {
    "3dgp": Kind(novel_view=True, background=True),
    "epigraf": Kind(depth=False, learned_cameras=False, distillation=False, novel_view=True, background=True),
    "stylegan2": Kind(depth=False, learned_cameras=False, patches=False, image_backbone=True),
    "eg3d": Kind(
        depth=False,
        learned_cameras=False,
        patches=False,
        upsampling=True,
        dual=True,
        pose_conditioning=True,
        density_regularization=True,
        published_planes=True,
    ),
    "volumegan": Kind(depth=False, learned_cameras=False, patches=False, recompute=False, upsampling=True, volume=True),
    "stylenerf": Kind(
        depth=False,
        learned_cameras=False,
        patches=False,
        recompute=False,
        upsampling=True,
        growing=True,
        nerf_path_regularization=True,
    ),
}
"""By the value of `model.kind`."""


def kind_problem(config: Config) -> str | None:
    """The setting of a part that the kind of model does not have, and what to do; None if there is none."""
    name, model, size = config.model.kind, config.model, config.dataset.resolution
    for wrong, key, expected in _requirements(config, KINDS[name]):
        if wrong:
            return f"model.kind: '{name}' has no such part; set {key} to {expected}"
    factor = model.generator.upsampling
    if KINDS[name].upsampling and not 4 <= size // factor < size:
        return (
            f"model.generator.upsampling: kind '{name}' renders features of {size} / {factor} pixels along each side "
            f"(dataset.resolution); use a factor from 2 to {size // 4}"
        )
    return None


def _requirements(config: Config, kind: Kind) -> Iterator[tuple[bool, str, Any]]:
    """Whether a setting contradicts the kind, its key, and the value it needs."""
    model, size = config.model, config.dataset.resolution
    if not kind.depth:
        yield model.depth, "model.depth", "false"
    if not kind.learned_cameras:
        yield config.camera.learned, "camera.learned", "false"
    if not kind.distillation:
        yield config.train.distillation.loss != "none", "train.distillation.loss", "none"
    if not kind.patches:
        whole = f"{size} (dataset.resolution)"
        yield model.discriminator.patch_resolution != size, "model.discriminator.patch_resolution", whole
        yield config.train.patch_scale_min != 1, "train.patch_scale_min", "1"
    if not kind.upsampling:
        yield model.generator.upsampling != 1, "model.generator.upsampling", "1"
    if not kind.pose_conditioning:
        yield model.generator.pose_conditioning, "model.generator.pose_conditioning", "false"
    if not kind.published_planes:
        yield model.generator.published_planes, "model.generator.published_planes", "false"
    if not kind.background:
        yield model.generator.background != "none", "model.generator.background", "none"
    if not kind.novel_view:
        yield config.train.novel_view > 0, "train.novel_view", "0"
    if not kind.density_regularization:
        yield config.train.density_regularization > 0, "train.density_regularization", "0"
    if not kind.nerf_path_regularization:
        yield config.train.nerf_path_regularization > 0, "train.nerf_path_regularization", "0"
    if not kind.growing:
        yield config.train.growing.start != 1, "train.growing.start", "1"
        yield config.train.growing.end != 1, "train.growing.end", "1"
    if not kind.recompute:
        yield model.recompute, "model.recompute", "false"
    if kind.image_backbone:
        yield (
            model.generator.plane_resolution != size,
            "model.generator.plane_resolution",
            f"{size} (dataset.resolution)",
        )
