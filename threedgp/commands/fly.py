"""``threedgp fly``: films of scenes by a moving camera, or of a scene that turns into others."""

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

    from threedgp.commands.models import Model, Subject
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import Progress

FRAMES = 96
MOST_PIXELS = 1 << 31
"""Of all frames of a film together, which lie in memory while it is made: seven bytes each."""
PathName = Literal["front_circle", "line", "wiggle", "orbit"]


class Flight(NamedTuple):
    """How films are made."""

    way: str
    """Name of a path, `cameras` where they are given, `interpolation` where they follow the scenes."""
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
            help="Where the camera flies: a ring in front of the scene (if nothing is said), from left to right, from "
            "side to side with a nod, once around."
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(help="JSON or CSV of cameras, one a frame; with --frames a smooth path through them."),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help=f"Without: {FRAMES}, or as many as --cameras has.")] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="One film that passes all scenes, --frames in all, and comes back.")
    ] = False,
    truncation: TruncationOption = 1.0,
    towards: TowardsOption = "all",
    size: SizeOption = None,
    depth: Annotated[bool, typer.Option("--depth", help="Depth beside the picture, near is bright.")] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Surface normals beside the picture.")] = False,
    fps: Annotated[int, typer.Option(min=1, max=240, help="Frames a second.")] = 24,
    crf: Annotated[int, typer.Option(min=1, max=51, help="Quality: 1 = best, 51 = worst.")] = 18,
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the films.")] = Path("results/flights"),
) -> None:
    """Film scenes, seed0003_class005_front_circle.mp4 and so on: H.264, which every browser plays. Run again, it makes
    only what is missing. docs/seeing.md says how to write down cameras.

    \b
    Examples:
      threedgp fly results/model --seeds 0-3 --path orbit --size 128 --depth
      threedgp fly results/model --seeds 7 --cameras cameras.csv --frames 120
      threedgp fly results/model --seeds 0-5 --classes 2 --interpolate
    """
    from threedgp.commands.models import choose, make_subject, open_model
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import progress

    if path and cameras:
        raise UserError("--path and --cameras: only one of them can say where the camera flies; leave one out.")
    opened = open_model(model, device)
    chosen = choose(opened, seeds, classes)
    given = None if cameras is None else _given_cameras(cameras, frames, opened)
    way = "cameras" if given else path or ("interpolation" if interpolate else "front_circle")
    count, pixels = len(given) if given else frames or FRAMES, size or opened.resolution
    if count * pixels**2 > MOST_PIXELS:
        raise UserError(f"--frames: {count:,} of {pixels} x {pixels} pixels are too long a film; make it in pieces.")
    if interpolate and count < len(chosen):
        raise UserError(f"--frames: {count:,} cannot pass {len(chosen):,} scenes; ask for one for each at least.")
    flight = Flight(way, given, count, interpolate, truncation, towards, pixels, depth, normals, fps, crf)
    films = [chosen] if interpolate else [[one] for one in chosen]
    folder = OutputFolder(out)
    with progress("fly", len(films) * count, unit="frames") as bar:
        for scenes in films:
            _film(opened, [make_subject(opened, *scene) for scene in scenes], flight, folder, bar)
    print(f"{out} now holds {len(films)} {'film' if len(films) == 1 else 'films'}.")


def _given_cameras(file: Path, frames: int | None, model: Model) -> list[list[float]]:
    from threedgp.camera.files import read_cameras
    from threedgp.camera.trajectories import points

    cameras = read_cameras(file, model.generator.camera_config)
    return (cameras if frames is None else points(cameras, frames)).tolist()


def _film(model: Model, scenes: list[Subject], flight: Flight, folder: OutputFolder, bar: Progress) -> None:
    """One film: of a scene, or of all scenes one after the other."""
    import torch

    from threedgp.visual.styles import interpolate_styles, scene_styles
    from threedgp.visual.video import SUFFIX, write_video
    from threedgp.visual.views import own_cameras, render_styles

    name = f"{scenes[0].name}_{flight.way}{SUFFIX}"
    if flight.interpolate:
        name = f"{scenes[0].name}_to_{scenes[-1].name}_{flight.way}{SUFFIX}"
    numbers = [[scene.seed, scene.label] for scene in scenes]
    origin = {"model": model.sha256, "scenes": numbers, **flight._asdict()}
    bar.note(name)
    if folder.holds(name, origin):
        bar.advance(flight.frames)
        return
    generator = model.generator
    own = torch.cat([own_cameras(generator, scene.scenes) for scene in scenes]).cpu()
    styles = [scene_styles(generator, scene.scenes, flight.truncation, flight.towards) for scene in scenes]
    course = _course(model, flight, own)
    if flight.interpolate:
        styles, course = [interpolate_styles(torch.cat(styles), flight.frames)], course[:, None]
    else:
        course = course[None]
    seen = render_styles(generator, torch.cat(styles), course, flight.size, bar)
    pictures, depth, normals = (values.reshape(-1, *values.shape[2:]) for values in (*seen[:2], seen.normals))
    with folder.adding(name, origin) as target:
        write_video(target, _frames(pictures, depth, normals, flight), flight.fps, flight.crf)


def _course(model: Model, flight: Flight, own: Tensor) -> Tensor:
    """Cameras `[F, 8]` of a film whose scenes have the cameras `own` `[N, 8]`."""
    import torch

    from threedgp.camera.trajectories import PATHS, points

    if flight.cameras:
        return torch.tensor(flight.cameras)
    if flight.way == "interpolation":
        return points(own, flight.frames, closed=True)
    return PATHS[flight.way](model.generator.camera_config, flight.frames, own[0])


def _frames(pictures: np.ndarray, depth: np.ndarray, normals: np.ndarray, flight: Flight) -> Iterator[np.ndarray]:
    """Frames of the film from pictures `[F, R, R, 3]`, depth `[F, R, R]` and normals `[F, R, R, 3]`."""
    import numpy as np

    from threedgp.visual.grids import depth_colors
    from threedgp.visual.normals import normal_colors

    tiles = [pictures]
    if flight.depth:
        tiles.append(depth_colors(depth))
    if flight.normals:
        tiles.append(normal_colors(normals))
    for row in zip(*tiles, strict=True):
        yield np.concatenate(row, axis=1)
