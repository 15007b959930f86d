"""The files of stage `render`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.trajectories import arc, wiggle
from threedgp.config import RenderConfig
from threedgp.data.images import decode_image, depth_from_bytes
from threedgp.data.shards import ShardFolder
from threedgp.models.generator import Generator
from threedgp.models.scenes import sample_scenes
from threedgp.progress import progress
from threedgp.visual.grids import beside, depth_colors, enlarge, enlargement, grid, write_png
from threedgp.visual.meshes import scene_mesh, write_mesh
from threedgp.visual.video import SUFFIX, write_video
from threedgp.visual.views import Views, make_planes, own_cameras, render_views

TILE, FLIGHT_TILE = 96, 192
"""Pixels that small pictures are enlarged to."""
FRAMES_PER_SECOND = 24
MESH_CAMERAS = 16
"""Cameras that decide which part of space a mesh shows."""


def draw_gallery(
    generator: Generator, resolution: int, shards: ShardFolder, settings: RenderConfig, folder: Path
) -> None:
    """Write samples.png, depth.png, pairs.png, real.png, views.png, flight.mp4 and mesh-*.glb to `folder`.

    Args:
        generator: in evaluation mode.
        resolution: R, pixels along each side of a picture.
        shards: training pictures, for comparison.
        settings: how many of what.
        folder: made if missing.
    """
    rows, columns = settings.grid
    cameras = own_cameras(generator, sample_scenes(generator, rows * columns, settings.seed)).cpu()
    strips, flights, meshes = (min(count, len(cameras)) for count in (rows, settings.flights, settings.meshes))
    total = len(cameras) + strips * settings.views + flights * settings.flight_frames + meshes

    with progress("render", total) as bar:

        def look(paths: Tensor) -> Views:
            """The first N scenes along their paths `[N, F, 8]`."""
            some = sample_scenes(generator, len(paths), settings.seed)
            return render_views(generator, some, paths, resolution, bar, settings.truncation)

        _draw_samples(look(cameras[:, None]), real_pictures(shards, rows * columns // 2), settings.grid, folder)
        arcs = [arc(generator.camera_config, settings.views, camera) for camera in cameras[:strips]]
        _draw_strips(look(torch.stack(arcs)), folder)
        if flights:
            turns = [wiggle(generator.camera_config, settings.flight_frames, camera) for camera in cameras[:flights]]
            _draw_flight(look(torch.stack(turns)), folder)
        for number in range(meshes):
            _draw_mesh(generator, number, cameras[number], settings, folder)
            bar.advance()


def real_pictures(shards: ShardFolder, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first training pictures, uint8 `[N, R, R, 3]`, and their depth as the estimator had it, float32 `[N, R, R]`,
    each map from 0 (near) to 1; None where the shards hold no depth."""
    rows = shards.read(0, ["image", "depth"]).slice(0, max(count, 1)).to_pylist()
    pictures = np.stack([decode_image(row["image"]) for row in rows])
    if shards.meta["estimator"] == "none":
        return pictures, None
    depth = np.stack([depth_from_bytes(row["depth"], pictures.shape[1]) for row in rows])
    return pictures, depth.astype(np.float32) / 65535


def _draw_samples(
    seen: Views, real: tuple[np.ndarray, np.ndarray | None], shape: tuple[int, int], folder: Path
) -> None:
    pictures, depth = seen.pictures[:, 0], depth_colors(seen.depth[:, 0])
    factor = enlargement(pictures.shape[1], TILE)
    columns = shape[1]
    pairs_across = max(columns // 2, 1)  # so that a sheet of pairs is as wide as one of pictures
    count = pairs_across * shape[0]
    truth, estimated = real
    if estimated is not None:
        truth = beside(truth, depth_colors(estimated, bounds=(0, 1)))
    sheets = {
        "samples": grid(pictures, columns),
        "depth": grid(depth, columns),
        "pairs": grid(beside(pictures, depth)[:count], pairs_across),
        "real": grid(truth[:count], pairs_across),
    }
    for name, sheet in sheets.items():
        write_png(folder / f"{name}.png", enlarge(sheet, factor))


def _draw_strips(seen: Views, folder: Path) -> None:
    """Each scene as a row of pictures above a row of depth."""
    rows = np.stack([seen.pictures, depth_colors(seen.depth)], axis=1)  # [N, 2, F, R, R, 3]
    sheet = grid(rows.reshape(-1, *rows.shape[3:]), columns=rows.shape[2])
    write_png(folder / "views.png", enlarge(sheet, enlargement(rows.shape[3], TILE)))


def _draw_flight(seen: Views, folder: Path) -> None:
    """All scenes side by side, pictures above depth."""
    frames = np.concatenate([seen.pictures, depth_colors(seen.depth)]).swapaxes(0, 1)  # [F, 2 N, R, R, 3]
    factor = enlargement(frames.shape[2], FLIGHT_TILE)
    sheets = np.stack([enlarge(grid(tiles, columns=len(seen.pictures)), factor) for tiles in frames])
    write_video(folder / f"flight{SUFFIX}", sheets, FRAMES_PER_SECOND)


def _draw_mesh(generator: Generator, number: int, camera: Tensor, settings: RenderConfig, folder: Path) -> None:
    scene = sample_scenes(generator, 1, settings.seed, start=number)
    planes = make_planes(generator, scene, settings.truncation)
    around = wiggle(generator.camera_config, MESH_CAMERAS, camera)
    write_mesh(folder / f"mesh-{number:03d}.glb", scene_mesh(generator, planes, around, settings.mesh_resolution))
