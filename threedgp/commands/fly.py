"""``threedgp fly``: videos of scenes from a moving camera, or of an interpolation between scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from threedgp.visual.views import Views

FRAMES, FPS = 96, 24
MAX_PIXELS = 1 << 31
"""Pixels of all frames of a video, which are kept in memory at seven bytes each."""
PathName = Literal["front_circle", "line", "wiggle", "orbit"]


def fly(
    model: options.ModelArgument = options.MODEL,
    seeds: options.SeedsOption = "0-3",
    classes: options.ClassesOption = None,
    path: Annotated[
        PathName | None,
        typer.Option(
            help="Path of the camera: a circle in front of the scene (default), from left to right, from side to side "
            "with a nod, once around."
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(help="JSON or CSV file with one camera per frame; with --frames, a smooth path through them."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help=f"Default: {FRAMES}, or the number of cameras in --cameras.")
    ] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="One video of --frames frames through all scenes and back.")
    ] = False,
    truncation: options.TruncationOption = 1.0,
    towards: options.TowardsOption = "all",
    size: options.SizeOption = None,
    depth: Annotated[bool, typer.Option("--depth", help="Show depth beside the image; near is bright.")] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Show surface normals beside the image.")] = False,
    fps: Annotated[int, typer.Option(min=1, max=240, help="Frames per second.")] = FPS,
    crf: Annotated[int, typer.Option(min=1, max=51, help="Quality: 1 = best, 51 = worst.")] = 18,
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the videos.")] = Path("results/flights"),
) -> None:
    """Render videos of scenes, named like seed0003_class005_front_circle.mp4, with the truncation before the path where
    it is not 1 (H.264, which every browser plays). The same command run again renders only what is missing.
    docs/seeing.md describes files of cameras.

    \b
    Examples:
      threedgp fly results/model --seeds 0-3 --path orbit --size 128 --depth
      threedgp fly results/model --seeds 7 --cameras cameras.csv --frames 120
      threedgp fly results/model --seeds 0-5 --classes 2 --interpolate
    """
    import torch

    from threedgp.api import make_scene, open_model
    from threedgp.camera.files import read_cameras
    from threedgp.camera.trajectories import PATHS, points
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.runtime.progress import progress
    from threedgp.visual.styles import interpolate_styles, scene_styles
    from threedgp.visual.video import SUFFIX, write_video
    from threedgp.visual.views import posterior_cameras, render_views

    if path and cameras:
        raise UserError("--path and --cameras: both set the camera; leave one out.")
    opened = open_model(model, device)
    if depth or normals or path or cameras or not interpolate:
        opened.require_density("depth, normals and a moving camera")
    generator, chosen = opened.generator, options.scene_list(seeds, classes, opened.class_names)
    given = None
    if cameras:
        read = read_cameras(cameras, generator.camera_config)
        given = (read if frames is None else points(read, frames)).tolist()
    name = "cameras" if given else path or ("interpolation" if interpolate else "front_circle")
    count, pixels = len(given) if given else frames or FRAMES, size or opened.resolution
    if count * pixels**2 > MAX_PIXELS:
        raise UserError(
            f"--frames: {count:,} frames of {pixels} x {pixels} pixels do not fit in memory; lower it or --size."
        )
    if interpolate and count < len(chosen):
        raise UserError(f"--frames: {len(chosen):,} scenes need at least as many frames, got {count:,}.")
    settings = dict(name=name, cameras=given, frames=count, interpolate=interpolate, truncation=truncation)
    settings |= dict(towards=towards, size=pixels, depth=depth, normals=normals, fps=fps, crf=crf)
    videos = [chosen] if interpolate else [[scene] for scene in chosen]
    folder = OutputFolder(out)
    with progress("fly", len(videos) * count, unit="frames") as bar:
        for seeds_and_labels in videos:
            scenes = [make_scene(opened, *scene) for scene in seeds_and_labels]
            stem = (f"{scenes[0].name()}_to_" if interpolate else "") + scenes[-1].name(truncation)
            file = f"{stem}_{name}{SUFFIX}"
            origin = {"model": opened.sha256, "scenes": [[one.seed, one.label] for one in scenes], **settings}
            bar.note(file)
            if folder.holds(file, origin):
                bar.advance(count)
                continue
            own = torch.cat([posterior_cameras(generator, scene.inputs) for scene in scenes]).cpu()
            w = torch.cat([scene_styles(generator, scene.inputs, truncation, towards) for scene in scenes])
            if given:
                way = torch.tensor(given)  # [F, 8]
            elif name == "interpolation":
                way = points(own, count, closed=True)
            else:
                way = PATHS[name](generator.camera_config, count, own[0])
            if interpolate:  # each frame is another scene, seen from one camera
                w, way = interpolate_styles(w, count), way[:, None]
            else:
                way = way[None]
            views = render_views(generator, w, way, pixels, bar)
            with folder.adding(file, origin) as target:
                write_video(target, _frames(views, depth, normals), fps, crf)
    print(f"{out}: {count_of(len(videos), 'video')}; {folder.summary(len(videos))}.")


def _frames(views: Views, depth: bool, normals: bool) -> Iterator[np.ndarray]:
    """Images with depth and normals beside them, one at a time, since normals take much more memory than images."""
    import numpy as np

    from threedgp.camera.normals import depth_normals
    from threedgp.visual.grids import depth_bounds, depth_colors, normal_colors

    bounds = depth_bounds(views.depth) if depth else None
    for place in np.ndindex(views.images.shape[:2]):
        tiles = [views.images[place]]
        if depth:
            tiles.append(depth_colors(views.depth[place], bounds))
        if normals:
            tiles.append(normal_colors(depth_normals(views.depth[place][None], views.fov[place][None])[0]))
        yield np.concatenate(tiles, axis=1)
