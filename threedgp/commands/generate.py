"""``threedgp generate``: images of scenes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError

MAX_TILES, NUM_COLUMNS = 1024, 8
TILE = 96
"""Pixels that small images are enlarged to in a grid."""
Camera = Literal["own", "front"]


def generate(
    model: options.ModelArgument = options.MODEL,
    seeds: options.SeedsOption = "0-15",
    classes: options.ClassesOption = None,
    truncation: Annotated[
        str,
        typer.Option(metavar="LIST", help="1 = full variety, 0 = the average scene; several, as in 0,0.5,1: a sweep."),
    ] = "1",
    towards: options.TowardsOption = "all",
    camera: Annotated[
        Camera, typer.Option(help="The camera that the model predicts for each scene, or the center of the prior.")
    ] = "own",
    size: options.SizeOption = None,
    depth: Annotated[
        bool, typer.Option("--depth", help="Also write depth as 16-bit PNG: 0 = ray_start, 65535 = ray_end.")
    ] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Also write surface normals as colors.")] = False,
    grid: Annotated[
        bool, typer.Option("--grid", help="Also write a grid of all images, one row per truncation and class.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Show seed, class and truncation above each image of the grid.")
    ] = False,
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("results/generated"),
) -> None:
    """Generate images, named like seed0003_class005_truncation0.7.png. Their metadata name seed, class, truncation,
    model and version. The same command run again generates only what is missing.

    \b
    Example:
      threedgp generate results/model --seeds 0-15 --classes 1,5 --truncation 0.7 --depth --grid --out images
    """
    import numpy as np

    from threedgp.api import make_scene, open_model
    from threedgp.camera.priors import frontal_cameras
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.data.images import decode_image
    from threedgp.runtime.progress import progress
    from threedgp.visual.grids import (
        depth_colors,
        normal_colors,
        read_depth,
        scene_text,
        write_depth,
        write_grid,
        write_png,
    )
    from threedgp.visual.styles import scene_styles
    from threedgp.visual.views import posterior_cameras, render_views

    truncations = options.truncation_list(truncation)
    opened = open_model(model, device)
    if depth or normals or camera != "own":
        opened.require_density("depth, normals and a camera")
    generator, config = opened.generator, opened.generator.camera_config
    bounds = (config.ray_start, config.ray_end)
    chosen = options.scene_list(seeds, classes, opened.class_names)
    count = len(chosen) * len(truncations)
    if labels and not grid:
        raise UserError("--labels: needs --grid, whose images they name.")
    if grid and count > MAX_TILES:
        raise UserError(f"--grid: {count:,} images are too many for one grid; the maximum is {MAX_TILES:,}.")
    folder = OutputFolder(out)
    kinds = ["", *["_depth"] * depth, *["_normals"] * normals]
    names, titles = [], []
    with progress("generate", count) as bar:
        # One scene at a time, since an image must not depend on which others are requested.
        for share, (seed, label) in product(truncations, chosen):
            scene = make_scene(opened, seed, label)
            name = scene.name(share)
            names.append(name)
            class_name = "" if scene.label is None else opened.class_names[scene.label]
            title = [f"seed {seed}", class_name, f"truncation {share:g}" if len(truncations) > 1 else ""]
            titles.append(", ".join(filter(None, title)))
            text = scene_text(seed, scene.label, class_name, share, opened.sha256)
            origin = {"model": opened.sha256, "seed": seed, "label": scene.label, "truncation": share}
            origin |= {"towards": towards, "camera": camera, "size": size or opened.resolution}
            if all(folder.holds(f"{name}{kind}.png", origin) for kind in kinds):
                bar.advance()
                continue
            w = scene_styles(generator, scene.inputs, share, towards)
            own = camera == "own"
            cameras = posterior_cameras(generator, scene.inputs) if own else frontal_cameras(config, 1)
            views = render_views(generator, w, cameras[:, None], size or opened.resolution, bar)
            for kind in kinds:
                with folder.adding(f"{name}{kind}.png", origin) as path:
                    if kind == "_depth":
                        write_depth(path, views.depth[0, 0], bounds, text)
                    else:
                        write_png(path, normal_colors(views.normals[0, 0]) if kind else views.images[0, 0], text)
    if grid:
        rows = len(truncations) * len({label for _, label in chosen})
        columns = count // rows if rows > 1 else min(count, NUM_COLUMNS)
        for kind in kinds:
            files, tiles = [f"{name}{kind}.png" for name in names], []
            for path in (out / file for file in files):
                try:
                    tile = read_depth(path, bounds) if kind == "_depth" else decode_image(path.read_bytes())
                except (OSError, ValueError):
                    tile = None
                if tile is None or (tiles and tile.shape != tiles[0].shape):
                    reason = "this is not the image that was generated; delete it and run the command again."
                    raise UserError(f"{path}: {reason}")
                tiles.append(tile)
            images = depth_colors(np.stack(tiles)) if kind == "_depth" else np.stack(tiles)
            with folder.adding(f"grid{kind}.png", {"of": files, "labels": labels}) as path:
                write_grid(path, images, columns, TILE, titles if labels else None)
    summary = folder.summary((count + grid) * len(kinds))
    print(f"{out}: {count_of(count, 'image')}{', and all of them in grid.png' if grid else ''}; {summary}.")
