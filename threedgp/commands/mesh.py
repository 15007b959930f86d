"""``threedgp mesh``: scenes as files for 3D programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError


def mesh(
    model: options.ModelArgument = options.MODEL,
    seeds: options.SeedsOption = "0",
    classes: options.ClassesOption = None,
    format: Annotated[str, typer.Option(metavar="LIST", help="One or more of glb, ply and obj.")] = "glb",
    resolution: Annotated[int, typer.Option(min=8, max=1024, help="Grid points along a side of the cube.")] = 256,
    level: Annotated[
        float | None,
        typer.Option(help="Density of the surface. Default: the density that agrees best with the rendered depth."),
    ] = None,
    whole_cube: Annotated[
        bool, typer.Option("--whole-cube", help="Keep what no camera in front of the scene sees.")
    ] = False,
    truncation: options.TruncationOption = 1.0,
    towards: options.TowardsOption = "all",
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the meshes.")] = Path("results/meshes"),
) -> None:
    """Write watertight meshes with vertex colors, named like seed0003_class005.glb, with the truncation behind where it
    is not 1. The same command run again writes only what is missing. +y is up, the frontal camera is on +z; one scene
    unit is one meter.

    \b
    Example:
      threedgp mesh results/model --seeds 0-3 --classes 2 --format glb,ply --resolution 256
    """
    from threedgp.api import make_scene, open_model
    from threedgp.camera.trajectories import front_circle
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.runtime.progress import progress
    from threedgp.visual.meshes import CAMERAS, FORMATS, NoSurface, scene_mesh, write_mesh
    from threedgp.visual.styles import scene_content
    from threedgp.visual.views import posterior_cameras

    suffixes = options.format_list(format, FORMATS)
    if level is not None and not 0 < level < float("inf"):
        raise UserError(f"--level: expected a density above 0, got {level}.")
    opened = open_model(model, device)
    opened.require_density("a mesh")
    generator = opened.generator
    chosen = options.scene_list(seeds, classes, opened.class_names)
    settings = dict(resolution=resolution, level=level, whole_cube=whole_cube, truncation=truncation, towards=towards)
    folder = OutputFolder(out)
    without_surface = []
    with progress("mesh", len(chosen) * resolution, unit="planes") as bar:
        for seed, label in chosen:
            scene = make_scene(opened, seed, label)
            name = scene.name(truncation)
            bar.note(name)
            origin = {"model": opened.sha256, "seed": scene.seed, "label": scene.label, **settings}
            files = [f"{name}.{suffix}" for suffix in suffixes]
            missing = [file for file in files if not folder.holds(file, origin)]
            if not missing:
                bar.advance(resolution)
                continue
            content = scene_content(generator, scene.inputs, truncation, towards)
            cameras = front_circle(generator.camera_config, CAMERAS, posterior_cameras(generator, scene.inputs)[0])
            try:
                surface = scene_mesh(generator, content, cameras, resolution, bar, level=level, whole_cube=whole_cube)
            except NoSurface as reason:  # the other scenes may have one
                without_surface.append(f"{name}: {reason}")
                continue
            for file in missing:
                with folder.adding(file, origin) as target:
                    write_mesh(target, surface)
    if without_surface:
        rest = f" ({len(without_surface)} of {len(chosen)} scenes have none.)" if len(chosen) > 1 else ""
        raise UserError(f"{without_surface[0]}{rest}")
    summary = folder.summary(len(chosen) * len(suffixes))
    print(f"{out}: {count_of(len(chosen), 'scene')} as {', '.join(suffixes)}; {summary}.")
