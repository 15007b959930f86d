"""``threedgp generate``: pictures of scenes."""

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
    share_list,
)
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.commands.models import Model, Subject
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import Progress

MOST_TILES, TILES_ACROSS = 1024, 8
TILE = 96
"""Pixels that small pictures are enlarged to on a sheet."""
Camera = Literal["own", "front"]


class Look(NamedTuple):
    """How a scene is drawn."""

    truncation: float
    towards: Towards
    camera: Camera
    size: int


def generate(
    model: ModelArgument = MODEL,
    seeds: SeedsOption = "0-15",
    classes: ClassesOption = None,
    truncation: Annotated[
        str,
        typer.Option(metavar="LIST", help="1 = full variety, 0 = the average scene; several such as 0,0.5,1: a sweep."),
    ] = "1",
    towards: TowardsOption = "all",
    camera: Annotated[
        Camera, typer.Option(help="The camera that the model gives each scene, or the middle of the prior for all.")
    ] = "own",
    size: SizeOption = None,
    depth: Annotated[
        bool, typer.Option("--depth", help="Also depth as PNG of 16 bits: 0 = ray_start, 65535 = ray_end.")
    ] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Also surface normals as colours.")] = False,
    grid: Annotated[
        bool, typer.Option("--grid", help="Also a sheet of them all: a row for each truncation and class.")
    ] = False,
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("results/generated"),
) -> None:
    """Draw pictures, seed0003_class005.png and so on. Run again, it draws only what is missing.

    \b
    Example:
      threedgp generate results/model --seeds 0-15 --classes 1,5 --truncation 0.7 --depth --grid --out pictures
    """
    from threedgp.commands.models import choose, make_subject, open_model
    from threedgp.commands.outputs import OutputFolder
    from threedgp.runtime.progress import progress

    truncations = share_list(truncation, "--truncation")
    opened = open_model(model, device)
    chosen = choose(opened, seeds, classes)
    count = len(chosen) * len(truncations)
    if grid and count > MOST_TILES:
        raise UserError(f"--grid: {count:,} pictures are too many for one sheet; ask for {MOST_TILES:,} at most.")
    folder = OutputFolder(out)
    kinds = ["", *(f"_{kind}" for kind, wanted in (("depth", depth), ("normals", normals)) if wanted)]
    names = []
    with progress("generate", count) as bar:
        for share in truncations:
            look = Look(share, towards, camera, size or opened.resolution)
            for seed, label in chosen:
                subject = make_subject(opened, seed, label)
                names.append(subject.name + (f"_truncation{share:g}" if len(truncations) > 1 else ""))
                _draw(opened, subject, look, names[-1], kinds, folder, bar)
    if grid:
        rows = len(truncations) * len({label for _, label in chosen})
        across = count // rows if rows > 1 else min(count, TILES_ACROSS)
        bounds = (opened.generator.camera_config.ray_start, opened.generator.camera_config.ray_end)
        for kind in kinds:
            _draw_sheet(folder, f"grid{kind}.png", [f"{name}{kind}.png" for name in names], across, bounds)
    print(
        f"{out} now holds {count} {'picture' if count == 1 else 'pictures'}{', and all in grid.png' if grid else ''}."
    )


def _draw(
    model: Model, subject: Subject, look: Look, name: str, kinds: list[str], folder: OutputFolder, bar: Progress
) -> None:
    """One scene at a time, for a picture must not depend on which others are asked for."""
    from threedgp.camera.priors import frontal_cameras
    from threedgp.visual.depth_files import write_depth
    from threedgp.visual.grids import write_png
    from threedgp.visual.normals import normal_colors
    from threedgp.visual.views import own_cameras, render_views

    origin = {"model": model.sha256, "seed": subject.seed, "label": subject.label, **look._asdict()}
    if all(folder.holds(f"{name}{kind}.png", origin) for kind in kinds):
        bar.advance()
        return
    generator, config = model.generator, model.generator.camera_config
    camera = own_cameras(generator, subject.scenes) if look.camera == "own" else frontal_cameras(config, 1)
    seen = render_views(generator, subject.scenes, camera[:, None], look.size, bar, look.truncation, look.towards)
    for kind in kinds:
        with folder.adding(f"{name}{kind}.png", origin) as path:
            if kind == "_depth":
                write_depth(path, seen.depth[0, 0], (config.ray_start, config.ray_end))
            else:
                write_png(path, normal_colors(seen.normals[0, 0]) if kind else seen.pictures[0, 0])


def _draw_sheet(folder: OutputFolder, sheet: str, files: list[str], across: int, bounds: tuple[float, float]) -> None:
    import numpy as np

    from threedgp.data.images import decode_image
    from threedgp.visual.depth_files import read_depth
    from threedgp.visual.grids import depth_colors, enlarge, enlargement, grid, write_png

    found: list[np.ndarray] = []
    for path in (folder.folder / file for file in files):
        try:
            one = read_depth(path, bounds) if sheet == "grid_depth.png" else decode_image(path.read_bytes())
        except (OSError, ValueError):
            one = None
        if one is None or (found and one.shape != found[0].shape):
            raise UserError(
                f"{path}: this is not the picture that was drawn; remove it and run the same command again."
            )
        found.append(one)
    tiles = np.stack(found)
    if sheet == "grid_depth.png":
        tiles = depth_colors(tiles)
    with folder.adding(sheet, {"of": files}) as path:
        write_png(path, enlarge(grid(tiles, across), enlargement(tiles.shape[1], TILE)))
