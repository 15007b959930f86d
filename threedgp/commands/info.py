"""``threedgp info``: description of a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from threedgp.commands.options import MODEL, ModelArgument

if TYPE_CHECKING:
    from threedgp.commands.models import Model

MAX_NAMES = 12


def info(
    model: ModelArgument = MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Describe a model: sizes, classes, data set, cameras, training, parameters, checksum.

    \b
    Example:
      threedgp info results/model
    """
    from rich.console import Console
    from rich.table import Table

    from threedgp.commands.models import open_model

    opened = open_model(model, "cpu")
    if as_json:
        content = {**opened.config, "parameters": _counts(opened), "sha256": opened.sha256}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(opened).items():
        table.add_row(name, value)
    Console(markup=False, emoji=False, highlight=False).print(table)


def _counts(model: Model) -> dict[str, int]:
    """Number of parameters of each part of the generator."""
    return {
        name: count
        for name, part in model.generator.named_children()
        if (count := sum(parameter.numel() for parameter in part.parameters()))
    }


def _facts(model: Model) -> dict[str, str]:
    camera, settings = model.generator.camera_config, model.generator.model_config
    sizes, names = settings.generator, model.class_names
    counts = _counts(model)
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if names[MAX_NAMES:] else "")
    yaw, pitch, fov = camera.yaw, camera.pitch, camera.fov
    side, channels = sizes.plane_resolution, sizes.plane_channels
    kimg = model.config.get("kimg")
    shown_kimg = f"{kimg:g}" if isinstance(kimg, int | float) else kimg
    return {
        "model": f"{settings.kind}, {'with' if settings.depth else 'without'} depth, in {model.folder}",
        "data set": str(model.config.get("dataset") or "unknown"),
        "images": f"{model.resolution} x {model.resolution} pixels",
        "classes": f"{len(names)}: {shown}" if names else "none",
        "training": "unknown" if kimg is None else f"{shown_kimg} thousand images, seed {model.config.get('seed')}",
        "cameras": f"{'learned, ' if camera.learned else ''}prior {camera.prior}: yaw {yaw[0]:.2f} to {yaw[1]:.2f}, "
        f"pitch {pitch[0]:.2f} to {pitch[1]:.2f}, fov {fov[0]:g} to {fov[1]:g} degrees, radius {camera.radius:g}",
        "rays": f"{camera.ray_start:g} to {camera.ray_end:g}, {sizes.coarse_samples} + {sizes.fine_samples} samples",
        "scenes": f"z {sizes.z_dim}, w {sizes.w_dim}, three planes of {side} x {side} x {channels}, "
        f"half-width {sizes.cube_half_width:g}",
        "parameters": f"{sum(counts.values()):,} (" + ", ".join(f"{name} {n:,}" for name, n in counts.items()) + ")",
        "sha256": model.sha256,
    }
