"""The files of stage `render`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.trajectories import PATHS, front_circle, line, points
from threedgp.config import RenderConfig
from threedgp.data.images import decode_images, depth_from_bytes
from threedgp.data.shards import ShardFolder
from threedgp.models.generator import Generator
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress, progress, say
from threedgp.visual.grids import beside, depth_colors, enlarge, enlargement, grid, write_png
from threedgp.visual.meshes import CAMERAS, NoSurface, scene_mesh, write_mesh
from threedgp.visual.normals import normal_colors
from threedgp.visual.styles import interpolate_styles, scene_styles, truncation_sweep
from threedgp.visual.surfaces import slabs_of
from threedgp.visual.video import SUFFIX, write_video
from threedgp.visual.views import Views, make_planes, own_cameras, render_styles

TILE, FLIGHT_TILE = 96, 192
"""Pixels that small pictures are enlarged to."""
FRAMES_PER_SECOND = 24


def draw_gallery(
    generator: Generator, resolution: int, shards: ShardFolder, settings: RenderConfig, folder: Path
) -> None:
    """Write pictures, films and meshes to `folder`.

    samples.png, depth.png, normals.png, pairs.png: the grid of scenes. real.png: training pictures. views.png: scenes
    from several cameras. truncation.png: scenes under several truncations, a row each. flight.mp4: cameras that move.
    interpolation.mp4: a scene that turns into others. mesh-*.glb: of the scenes that have a surface.

    Args:
        generator: in evaluation mode.
        resolution: R, pixels along each side of a picture.
        shards: training pictures, for comparison.
        settings: how many of what.
        folder: made if missing.
    """
    rows, columns = settings.grid
    scenes = sample_scenes(generator, rows * columns, settings.seed)
    cameras = own_cameras(generator, scenes).cpu()
    styles = scene_styles(generator, scenes, settings.truncation, settings.truncate_towards)
    strips, flights, meshes, swept = (
        min(count, len(cameras)) for count in (rows, settings.flights, settings.meshes, columns)
    )
    anchors = min(settings.interpolation, len(cameras))
    pictures = len(cameras) + strips * settings.views + swept * len(settings.truncations)
    frames = flights * settings.flight_frames + anchors * settings.interpolation_frames

    with progress("render", pictures + frames + meshes * len(slabs_of(settings.mesh_resolution))) as bar:

        def look(w: Tensor, paths: Tensor) -> Views:
            """The scenes of styles `[N, w_dim]` along paths `[N, F, 8]`."""
            return render_styles(generator, w, paths, resolution, bar)

        _draw_samples(look(styles, cameras[:, None]), real_pictures(shards, rows * columns // 2), settings.grid, folder)
        arcs = [line(generator.camera_config, settings.views, camera) for camera in cameras[:strips]]
        _draw_strips(look(styles[:strips], torch.stack(arcs)), folder)
        if settings.truncations:
            some = sample_scenes(generator, swept, settings.seed)
            sweep = truncation_sweep(generator, some, settings.truncations, settings.truncate_towards)
            paths = cameras[:swept, None].repeat(len(settings.truncations), 1, 1)
            _draw_sweep(look(sweep.flatten(0, 1), paths), swept, folder)
        if flights:
            path = PATHS[settings.flight_path]
            turns = [path(generator.camera_config, settings.flight_frames, camera) for camera in cameras[:flights]]
            _draw_film("flight", look(styles[:flights], torch.stack(turns)), settings.crf, folder)
        if anchors:
            count = anchors * settings.interpolation_frames
            path = points(cameras[:anchors], count, closed=True)
            seen = look(interpolate_styles(styles[:anchors], count), path[:, None])
            _draw_film("interpolation", _as_one_scene(seen), settings.crf, folder)
        for number in range(meshes):
            _draw_mesh(generator, number, cameras[number], settings, folder, bar)


def real_pictures(shards: ShardFolder, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first training pictures, uint8 `[N, R, R, 3]`, and their depth as the estimator had it, float32 `[N, R, R]`,
    each map from 0 (near) to 1; None where the shards hold no depth."""
    rows = shards.read(0, ["image", "depth"]).slice(0, max(count, 1))
    pictures = decode_images(rows["image"])
    if shards.meta["estimator"] == "none":
        return pictures, None
    depth = np.stack([depth_from_bytes(data.as_buffer(), pictures.shape[1]) for data in rows["depth"]])
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
        "normals": grid(normal_colors(seen.normals[:, 0]), columns),
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


def _draw_sweep(seen: Views, columns: int, folder: Path) -> None:
    """A row for each truncation."""
    pictures = seen.pictures[:, 0]
    write_png(folder / "truncation.png", enlarge(grid(pictures, columns), enlargement(pictures.shape[1], TILE)))


def _as_one_scene(seen: Views) -> Views:
    """Views of N scenes from one camera each, as the N frames of one."""
    return Views(*(values.swapaxes(0, 1) for values in seen))


def _draw_film(name: str, seen: Views, crf: int, folder: Path) -> None:
    """All scenes side by side, pictures above depth."""
    frames = np.concatenate([seen.pictures, depth_colors(seen.depth)]).swapaxes(0, 1)  # [F, 2 N, R, R, 3]
    factor = enlargement(frames.shape[2], FLIGHT_TILE)
    sheets = (enlarge(grid(tiles, columns=len(seen.pictures)), factor) for tiles in frames)
    write_video(folder / f"{name}{SUFFIX}", sheets, FRAMES_PER_SECOND, crf)


def _draw_mesh(
    generator: Generator, number: int, camera: Tensor, settings: RenderConfig, folder: Path, bar: Progress
) -> None:
    scene = sample_scenes(generator, 1, settings.seed, start=number)
    planes = make_planes(generator, scene, settings.truncation, settings.truncate_towards)
    around = front_circle(generator.camera_config, CAMERAS, camera)
    name = f"mesh-{number:03d}.glb"
    try:
        mesh = scene_mesh(generator, planes, around, settings.mesh_resolution, bar)
    except NoSurface as reason:  # of a model that has learned little; all else is there to be seen
        say(f"{name} is left out: {reason}")
        return
    write_mesh(folder / name, mesh)
