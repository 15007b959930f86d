"""Speed of the procedural world, a sheet of its images (`--sheet docs/images/world.png`), and the images with depth of
preset `rgbd_example` (`--pairs docs/rgbd_example`).

Prints images per second with one process and with several. The machine should do nothing else.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from threedgp.data.world.rendering import Rendering, render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.runtime.parallel import ordered_map

SHEET_SIDE = 8
NUM_PAIRS, PAIR_RESOLUTION = 8, 96


def render(index: int, resolution: int) -> Rendering:
    return render_picture(draw_scene(0, index), resolution)


def write_sheet(path: Path, resolution: int) -> None:
    """The first images of the world, row by row."""
    images = np.stack([render(index, resolution).rgb for index in range(SHEET_SIDE**2)])
    side = SHEET_SIDE * resolution
    rows = images.reshape(SHEET_SIDE, SHEET_SIDE, resolution, resolution, 3).swapaxes(1, 2)
    Image.fromarray(rows.reshape(side, side, 3)).save(path, optimize=True)


def write_pairs(folder: Path) -> None:
    """The first images of the world with their depth, scaled to 16 bits from the nearest to the farthest point."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(NUM_PAIRS):
        rendering = render(index, PAIR_RESOLUTION)
        near, far = rendering.depth.min(), rendering.depth.max()
        depth = np.rint((rendering.depth - near) / (far - near) * 65535).astype(np.uint16)
        Image.fromarray(rendering.rgb).save(folder / f"{index:03d}.jpg", quality=92)
        Image.fromarray(depth).save(folder / f"{index:03d}_depth.png", optimize=True)


def main(
    count: int = 500,
    resolution: int = 64,
    workers: int = 2,
    sheet: Annotated[Path | None, typer.Option(help="Write a sheet of images there and measure nothing.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Write images with depth there and measure nothing.")] = None,
) -> None:
    """Measure the speed, or write images."""
    if sheet:
        write_sheet(sheet, resolution)
        return
    if pairs:
        write_pairs(pairs)
        return
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {count} images of {resolution}x{resolution}")
    for number in sorted({1, workers}):
        start = time.perf_counter()
        for _ in ordered_map(partial(render, resolution=resolution), range(count), number, processes=True):
            pass
        print(f"{number} processes, with their start: {count / (time.perf_counter() - start):.0f} images/s")


if __name__ == "__main__":
    typer.run(main)
