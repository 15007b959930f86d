"""The kinds of models, and which parts each of them has. `threedgp.models.initialization` has their networks."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from threedgp.config.root import Config


class Kind(NamedTuple):
    """Parts that a kind of model has."""

    depth: bool = False
    """Depth for the discriminator, and the depth adaptor."""
    learned_cameras: bool = False
    distillation: bool = False
    patches: bool = False
    """Whether the discriminator sees patches; otherwise whole images."""
    recompute: bool = False
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
    contraction: bool = False
    """Whether the planes can cover all of space, contracted."""


KINDS = {
    "3dgp": Kind(
        depth=True,
        learned_cameras=True,
        distillation=True,
        patches=True,
        recompute=True,
        novel_view=True,
        background=True,
        contraction=True,
    ),
    "epigraf": Kind(patches=True, recompute=True, novel_view=True, background=True, contraction=True),
    "stylegan2": Kind(distillation=True, recompute=True, image_backbone=True),
    "eg3d": Kind(
        distillation=True,
        recompute=True,
        upsampling=True,
        dual=True,
        pose_conditioning=True,
        density_regularization=True,
        published_planes=True,
        contraction=True,
    ),
    "volumegan": Kind(distillation=True, upsampling=True, volume=True),
    "stylenerf": Kind(distillation=True, upsampling=True, growing=True, nerf_path_regularization=True),
}
"""By the value of `model.kind`."""


RESOLUTION = "dataset.resolution"
WITHOUT: dict[str, dict[str, Any]] = {
    "depth": {"model.depth": False},
    "learned_cameras": {"camera.learned": False},
    "distillation": {"train.distillation.loss": "none"},
    "patches": {"model.discriminator.patch_resolution": RESOLUTION, "train.patch_scale_min": 1},
    "upsampling": {"model.generator.upsampling": 1},
    "pose_conditioning": {"model.generator.pose_conditioning": False},
    "published_planes": {"model.generator.published_planes": False},
    "background": {"model.generator.background": "none"},
    "contraction": {"model.generator.contraction": False},
    "novel_view": {"train.novel_view": 0},
    "density_regularization": {"train.density_regularization": 0},
    "nerf_path_regularization": {"train.nerf_path_regularization": 0},
    "growing": {"train.growing.start": 1, "train.growing.end": 1},
    "recompute": {"model.recompute": False},
}
"""By part, the settings that a kind without it must have; `RESOLUTION` stands for the value of that setting."""


def kind_problem(config: Config) -> str | None:
    """The setting of a part that the kind of model does not have, and what to do; None if there is none."""
    name, size = config.model.kind, config.dataset.resolution
    kind, required = KINDS[name], {}
    for part, settings in WITHOUT.items():
        required |= {} if getattr(kind, part) else settings
    if kind.image_backbone:
        required["model.generator.plane_resolution"] = RESOLUTION
    for key, value in required.items():
        found = reduce(getattr, key.split("."), config)
        if found != (size if value == RESOLUTION else value):
            expected = f"{size} ({RESOLUTION})" if value == RESOLUTION else str(value).lower()
            return f"model.kind: '{name}' has no such part; set {key} to {expected}"
    factor = config.model.generator.upsampling
    if kind.upsampling and not 4 <= size // factor < size:
        return (
            f"model.generator.upsampling: kind '{name}' renders features of {size} / {factor} pixels along each side "
            f"({RESOLUTION}); use a factor from 2 to {size // 4}"
        )
    return None
