"""``threedgp mesh``: scenes as files for 3D programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands.options import (
    MODEL,
    ClassesOption,
    DeviceOption,
    ModelArgument,
    SeedsOption,
    TowardsOption,
    TruncationOption,
)
from threedgp.runtime.errors import UserError


def mesh(
    model: ModelArgument = MODEL,
    seeds: SeedsOption = "0",
    classes: ClassesOption = None,
    format: Annotated[str, typer.Option(metavar="LIST", help="glb, ply and obj, or some of them.")] = "glb",
    resolution: Annotated[int, typer.Option(min=8, max=2048, help="Grid points along a side of the cube.")] = 256,
    level: Annotated[
        float | None,
        typer.Option(help="Density of the surface. Without: the one whose surface lies where pictures show it."),
    ] = None,
    whole_cube: Annotated[
        bool, typer.Option("--whole-cube", help="Keep what no camera in front of the scene sees, too.")
    ] = False,
    truncation: TruncationOption = 1.0,
    towards: TowardsOption = "all",
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the meshes.")] = Path("results/meshes"),
) -> None:
    """Write watertight meshes with vertex colours, seed0003_class005.glb and so on. Run again, it makes only what is
    missing. +y is up, the frontal camera looks from +z; one scene unit is one metre.

    \b
    Example:
      threedgp mesh results/model --seeds 0-3 --classes 2 --format glb,ply --resolution 256
    """
    from threedgp.camera.trajectories import front_circle
    from threedgp.commands.models import choose, make_subject, open_model
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import progress
    from threedgp.visual.meshes import CAMERAS, FORMATS, NoSurface, scene_mesh, write_mesh
    from threedgp.visual.surfaces import slabs_of
    from threedgp.visual.views import make_planes, own_cameras

    suffixes = list(dict.fromkeys(format.lower().replace(" ", "").split(",")))
    unknown = [suffix for suffix in suffixes if suffix not in FORMATS]
    if unknown:
        raise UserError(f"--format: there is no format '{unknown[0]}'; choose among {', '.join(FORMATS)}.")
    if level is not None and not 0 < level < float("inf"):
        raise UserError(f"--level: {level} is no density; it lies above 0.")
    opened = open_model(model, device)
    generator = opened.generator
    chosen = choose(opened, seeds, classes)
    folder = OutputFolder(out)
    slabs, without = len(slabs_of(resolution)), []
    with progress("mesh", len(chosen) * slabs, unit="slabs") as bar:
        for seed, label in chosen:
            subject = make_subject(opened, seed, label)
            bar.note(subject.name)
            origin = {
                **{"model": opened.sha256, "seed": subject.seed, "label": subject.label, "resolution": resolution},
                **{"level": level, "whole_cube": whole_cube, "truncation": truncation, "towards": towards},
            }
            missing = [
                f"{subject.name}.{suffix}"
                for suffix in suffixes
                if not folder.holds(f"{subject.name}.{suffix}", origin)
            ]
            if not missing:
                bar.advance(slabs)
                continue
            planes = make_planes(generator, subject.scenes, truncation, towards)
            around = front_circle(generator.camera_config, CAMERAS, own_cameras(generator, subject.scenes)[0])
            try:
                solid = scene_mesh(generator, planes, around, resolution, bar, level=level, whole_cube=whole_cube)
            except NoSurface as reason:  # the others are made all the same
                without.append(f"{subject.name}: {reason}")
                continue
            for name in missing:
                with folder.adding(name, origin) as target:
                    write_mesh(target, solid)
    if without:
        rest = f" ({len(without)} of {len(chosen)} scenes have none.)" if len(chosen) > 1 else ""
        raise UserError(f"{without[0]}{rest}")
    print(f"{out} now holds {len(chosen)} {'scene' if len(chosen) == 1 else 'scenes'} as {', '.join(suffixes)}.")
