"""``threedgp info``: description of a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from threedgp.commands.options import MODEL, ModelArgument
from threedgp.runtime.progress import CONTROL

if TYPE_CHECKING:
    from threedgp.models.generator import Generator

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

    from threedgp.api import open_model
    from threedgp.commands.model_card import refinements

    opened = open_model(model, "cpu")
    generator, config, names = opened.generator, opened.config, opened.class_names
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in generator.named_children()}
    counts = {name: count for name, count in parts.items() if count}
    if as_json:
        print(json.dumps({**config, "parameters": counts, "sha256": opened.sha256}, indent=2, ensure_ascii=False))
        return
    camera, settings = generator.camera_config, generator.model_config
    sizes, yaw, pitch, fov = settings.generator, camera.yaw, camera.pitch, camera.fov
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if names[MAX_NAMES:] else "")
    kimg = config.get("kimg")
    facts = {
        "model": f"{settings.kind}, {'with' if settings.depth else 'without'} depth, in {opened.folder}",
        "data set": str(config.get("dataset") or "unknown"),
        "images": f"{opened.resolution} x {opened.resolution} pixels",
        "classes": f"{len(names)}: {shown}" if names else "none",
        "training": "unknown" if kimg is None else f"{kimg:g} thousand images, seed {config.get('seed')}",
        **({"refined": text} if (text := refinements(config)) else {}),
        "cameras": f"{'learned, ' if camera.learned else ''}prior {camera.prior}: yaw {yaw[0]:.2f} to {yaw[1]:.2f}, "
        f"pitch {pitch[0]:.2f} to {pitch[1]:.2f}, fov {fov[0]:g} to {fov[1]:g} degrees, radius {camera.radius:g}",
        "rays": f"{camera.ray_start:g} to {camera.ray_end:g}, {sizes.coarse_samples} + {sizes.fine_samples} samples",
        "scenes": f"z {sizes.z_dim}, w {sizes.w_dim}, {_content(generator)}",
        "parameters": f"{sum(counts.values()):,} (" + ", ".join(f"{name} {n:,}" for name, n in counts.items()) + ")",
        "sha256": opened.sha256,
    }
    if not generator.has_density:
        del facts["cameras"], facts["rays"]
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name, value.translate(CONTROL))
    Console(markup=False, emoji=False, highlight=False).print(table)


def _content(generator: Generator) -> str:
    """What a scene consists of, and its sizes."""
    sizes = generator.model_config.generator
    text = f"{generator.content_name} {' x '.join(map(str, generator.content_shape))}"
    if generator.has_density:
        text += f", half-width {sizes.cube_half_width:g}"
    if sizes.upsampling > 1:
        text += f"; {sizes.feature_channels} rendered features, enlarged {sizes.upsampling} times"
    return text
