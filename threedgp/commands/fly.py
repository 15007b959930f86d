"""``threedgp fly``: videos of scenes from a moving camera, or of an interpolation between scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from threedgp.commands.options import (
    MODEL,
    ClassesOption,
    DeviceOption,
    ModelArgument,
    SeedsOption,
    SizeOption,
    Towards,
    TowardsOption,
    TruncationOption,
)
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.commands.models import Model, Scene
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import Progress

FRAMES = 96
MAX_PIXELS = 1 << 31
"""Pixels of all frames of a video, which are kept in memory at seven bytes each."""
PathName = Literal["front_circle", "line", "wiggle", "orbit"]


class Flight(NamedTuple):
    """How videos are rendered."""

    name: str
    """Name of a path; `cameras` if they are given in a file, `interpolation` if they follow the scenes."""
    cameras: list[list[float]] | None
    frames: int
    interpolate: bool
    truncation: float
    towards: Towards
    size: int
    depth: bool
    normals: bool
    fps: int
    crf: int


def fly(
    model: ModelArgument = MODEL,
    seeds: SeedsOption = "0-3",
    classes: ClassesOption = None,
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
    truncation: TruncationOption = 1.0,
    towards: TowardsOption = "all",
    size: SizeOption = None,
    depth: Annotated[bool, typer.Option("--depth", help="Show depth beside the image; near is bright.")] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Show surface normals beside the image.")] = False,
    fps: Annotated[int, typer.Option(min=1, max=240, help="Frames per second.")] = 24,
    crf: Annotated[int, typer.Option(min=1, max=51, help="Quality: 1 = best, 51 = worst.")] = 18,
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the videos.")] = Path("results/flights"),
) -> None:
    """Render videos of scenes, named like seed0003_class005_front_circle.mp4 (H.264, which every browser plays). The
    same command run again renders only what is missing. docs/seeing.md describes files of cameras.

    \b
    Examples:
      threedgp fly results/model --seeds 0-3 --path orbit --size 128 --depth
      threedgp fly results/model --seeds 7 --cameras cameras.csv --frames 120
      threedgp fly results/model --seeds 0-5 --classes 2 --interpolate
    """
    from threedgp.camera.files import read_cameras
    from threedgp.camera.trajectories import points
    from threedgp.commands.models import choose_scenes, make_scene, open_model
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.runtime.progress import progress

    if path and cameras:
        raise UserError("--path and --cameras: both set the camera; leave one out.")
    opened = open_model(model, device)
    chosen = choose_scenes(opened, seeds, classes)
    given = None
    if cameras:
        read = read_cameras(cameras, opened.generator.camera_config)
        given = (read if frames is None else points(read, frames)).tolist()
    name = "cameras" if given else path or ("interpolation" if interpolate else "front_circle")
    count, pixels = len(given) if given else frames or FRAMES, size or opened.resolution
    if count * pixels**2 > MAX_PIXELS:
        raise UserError(f"--frames: {count:,} frames of {pixels} x {pixels} pixels do not fit in memory.")
    if interpolate and count < len(chosen):
        raise UserError(f"--frames: {len(chosen):,} scenes need at least as many frames, got {count:,}.")
    flight = Flight(name, given, count, interpolate, truncation, towards, pixels, depth, normals, fps, crf)
    videos = [chosen] if interpolate else [[scene] for scene in chosen]
    folder = OutputFolder(out)
    with progress("fly", len(videos) * count, unit="frames") as bar:
        for scenes in videos:
            _render_video(opened, [make_scene(opened, *scene) for scene in scenes], flight, folder, bar)
    print(f"{out} now holds {count_of(len(videos), 'video')}.")


def _render_video(model: Model, scenes: list[Scene], flight: Flight, folder: OutputFolder, bar: Progress) -> None:
    """One video of a scene, or of an interpolation through all scenes."""
    import numpy as np
    import torch

    from threedgp.camera.trajectories import PATHS, points
    from threedgp.visual.grids import depth_colors, normal_colors
    from threedgp.visual.styles import interpolate_styles, scene_styles
    from threedgp.visual.video import SUFFIX, write_video
    from threedgp.visual.views import posterior_cameras, render_views

    stem = f"{scenes[0].name}_to_{scenes[-1].name}" if flight.interpolate else scenes[0].name
    name = f"{stem}_{flight.name}{SUFFIX}"
    seeds_and_labels = [[scene.seed, scene.label] for scene in scenes]
    origin = {"model": model.sha256, "scenes": seeds_and_labels, **flight._asdict()}
    bar.note(name)
    if folder.holds(name, origin):
        bar.advance(flight.frames)
        return
    generator = model.generator
    own = torch.cat([posterior_cameras(generator, scene.inputs) for scene in scenes]).cpu()
    w = torch.cat([scene_styles(generator, scene.inputs, flight.truncation, flight.towards) for scene in scenes])
    if flight.cameras:
        cameras = torch.tensor(flight.cameras)  # [F, 8]
    elif flight.name == "interpolation":
        cameras = points(own, flight.frames, closed=True)
    else:
        cameras = PATHS[flight.name](generator.camera_config, flight.frames, own[0])
    if flight.interpolate:  # each frame is another scene, seen from one camera
        w, cameras = interpolate_styles(w, flight.frames), cameras[:, None]
    else:
        cameras = cameras[None]
    views = render_views(generator, w, cameras, flight.size, bar)
    tiles = [views.images]
    if flight.depth:
        tiles.append(depth_colors(views.depth))
    if flight.normals:
        tiles.append(normal_colors(views.normals))
    rows = zip(*(tile.reshape(-1, *tile.shape[2:]) for tile in tiles), strict=True)
    with folder.adding(name, origin) as target:
        write_video(target, (np.concatenate(row, axis=1) for row in rows), flight.fps, flight.crf)
