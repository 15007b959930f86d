"""``threedgp fly``: videos of scenes from a moving camera, or of an interpolation between scenes."""

from __future__ import annotations

from collections.abc import Iterator
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
    import numpy as np
    from torch import Tensor

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
    from threedgp.commands.models import choose_scenes, make_scene, open_model
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.runtime.progress import progress

    if path and cameras:
        raise UserError("--path and --cameras: both set the camera; leave one out.")
    opened = open_model(model, device)
    chosen = choose_scenes(opened, seeds, classes)
    given = None if cameras is None else _read_path(cameras, frames, opened)
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


def _read_path(file: Path, frames: int | None, model: Model) -> list[list[float]]:
    from threedgp.camera.files import read_cameras
    from threedgp.camera.trajectories import points

    cameras = read_cameras(file, model.generator.camera_config)
    return (cameras if frames is None else points(cameras, frames)).tolist()


def _render_video(model: Model, scenes: list[Scene], flight: Flight, folder: OutputFolder, bar: Progress) -> None:
    """One video of a scene, or of an interpolation through all scenes."""
    import torch

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
    cameras = _cameras(model, flight, own)  # [F, 8]
    if flight.interpolate:  # each frame is another scene, seen from one camera
        views = render_views(generator, interpolate_styles(w, flight.frames), cameras[:, None], flight.size, bar)
    else:
        views = render_views(generator, w, cameras[None], flight.size, bar)
    images, depth, normals = (values.reshape(-1, *values.shape[2:]) for values in (*views[:2], views.normals))
    with folder.adding(name, origin) as target:
        write_video(target, _frames(images, depth, normals, flight), flight.fps, flight.crf)


def _cameras(model: Model, flight: Flight, own: Tensor) -> Tensor:
    """Cameras `[F, 8]` of a video whose scenes have the posterior cameras `own` `[N, 8]`."""
    import torch

    from threedgp.camera.trajectories import PATHS, points

    if flight.cameras:
        return torch.tensor(flight.cameras)
    if flight.name == "interpolation":
        return points(own, flight.frames, closed=True)
    return PATHS[flight.name](model.generator.camera_config, flight.frames, own[0])


def _frames(images: np.ndarray, depth: np.ndarray, normals: np.ndarray, flight: Flight) -> Iterator[np.ndarray]:
    """Video frames from images `[F, R, R, 3]`, depth `[F, R, R]` and normals `[F, R, R, 3]`."""
    import numpy as np

    from threedgp.visual.grids import depth_colors, normal_colors

    tiles = [images]
    if flight.depth:
        tiles.append(depth_colors(depth))
    if flight.normals:
        tiles.append(normal_colors(normals))
    for row in zip(*tiles, strict=True):
        yield np.concatenate(row, axis=1)
