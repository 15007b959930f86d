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
    image_backbone: bool = False
    """Whether the backbone makes the image itself."""


KINDS = {
    "3dgp": Kind(),
    "epigraf": Kind(depth=False, learned_cameras=False, distillation=False),
    "stylegan2": Kind(depth=False, learned_cameras=False, patches=False, image_backbone=True),
}
"""By the value of `model.kind`."""


def kind_problem(config: Config) -> str | None:
    """The setting of a part that the kind of model does not have, and what to do; None if there is none."""
    for wrong, key, expected in _requirements(config, KINDS[config.model.kind]):
        if wrong:
            return f"model.kind: '{config.model.kind}' has no such part; set {key} to {expected}"
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
    if kind.image_backbone:
        yield (
            model.generator.plane_resolution != size,
            "model.generator.plane_resolution",
            f"{size} (dataset.resolution)",
        )
