"""Images, videos and meshes that stage `render` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import PITCH, YAW
from threedgp.camera.trajectories import PATHS, front_circle, line, points
from threedgp.config import RenderConfig
from threedgp.data.images import decode_images, depth_from_bytes
from threedgp.data.shards import ShardFolder
from threedgp.models.generator import Generator
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress, progress, say
from threedgp.visual.grids import beside, depth_colors, enlarge, enlargement, grid, normal_colors, write_grid
from threedgp.visual.meshes import CAMERAS, NoSurface, scene_mesh, write_mesh
from threedgp.visual.styles import interpolate_styles, scene_content, scene_styles
from threedgp.visual.video import SUFFIX, write_video
from threedgp.visual.views import Views, posterior_cameras, render_views

TILE, FLIGHT_TILE = 96, 192
"""Pixels that small images are enlarged to."""
MAX_CLASSES = 16
"""Rows of classes.png; of more classes, evenly spaced ones are shown."""
FRAMES_PER_SECOND = 24


def draw_gallery(
    generator: Generator, resolution: int, shards: ShardFolder, settings: RenderConfig, folder: Path
) -> None:
    """Write images, videos and meshes to `folder`.

    samples.png: the grid of scenes, labeled by number and class. classes.png: the same numbers in each class, one row
    each. real.png: training images. truncation.png: scenes at several truncations, one row each. interpolation.mp4: an
    interpolation between scenes. With density also depth.png, normals.png, pairs.png: the grid of scenes. views.png:
    scenes from several cameras. flight.mp4: moving cameras. mesh-*.glb: scenes that have a surface.
    """
    rows, columns = settings.grid
    num_scenes = rows * columns
    towards, truncations = settings.truncate_towards, settings.truncations
    scenes = sample_scenes(generator, num_scenes, settings.seed)
    cameras = posterior_cameras(generator, scenes).cpu()
    w = scene_styles(generator, scenes, settings.truncation, towards)
    from_several_cameras = rows, settings.flights, settings.meshes
    if not generator.has_density:
        from_several_cameras = 0, 0, 0
    strips, flights, meshes, swept, anchors = (
        min(count, num_scenes) for count in (*from_several_cameras, columns, settings.interpolation)
    )
    count = min(generator.num_classes, MAX_CLASSES)
    classes = np.linspace(0, generator.num_classes - 1, count).round().astype(int).tolist()
    num_images = num_scenes + strips * settings.views + swept * len(truncations) + columns * len(classes)
    num_frames = flights * settings.flight_frames + anchors * settings.interpolation_frames

    with progress("render", num_images + num_frames + meshes) as bar:

        def render(w: Tensor, cameras: Tensor) -> Views:
            return render_views(generator, w, cameras, resolution, bar)

        def name(number: int, label: int) -> str:
            return f"{number} {shards.meta['class_names'][label]}"

        labels = [] if scenes.labels is None else scenes.labels.tolist()
        names = [name(*scene) for scene in enumerate(labels)] or [str(number) for number in range(num_scenes)]
        views, real = render(w, cameras[:, None]), real_images(shards, num_scenes // 2)
        _draw_samples(views, real, settings.grid, names, folder)
        if classes:
            sets = [sample_scenes(generator, columns, settings.seed, labels=[label] * columns) for label in classes]
            images = [
                render(
                    scene_styles(generator, one, settings.truncation, towards),
                    posterior_cameras(generator, one).cpu()[:, None],
                ).images[:, 0]
                for one in sets
            ]
            names = [name(number, label) for label in classes for number in range(columns)]
            write_grid(folder / "classes.png", np.concatenate(images), columns, TILE, names)
        if strips:
            arcs = [line(generator.camera_config, settings.views, camera) for camera in cameras[:strips]]
            views = render(w[:strips], torch.stack(arcs))
            tiles = np.stack([views.images, depth_colors(views.depth)], axis=1)  # [N, 2, F, R, R, 3]: depth below
            write_grid(folder / "views.png", tiles.reshape(-1, *tiles.shape[3:]), settings.views, TILE)
        if truncations:
            some = sample_scenes(generator, swept, settings.seed)
            sweep = torch.cat([scene_styles(generator, some, truncation, towards) for truncation in truncations])
            views = render(sweep, cameras[:swept, None].repeat(len(truncations), 1, 1))
            names = [f"truncation {truncation:g}" for truncation in truncations for _ in range(swept)]
            write_grid(folder / "truncation.png", views.images[:, 0], swept, TILE, names)
        if flights:
            path = PATHS[settings.flight_path]
            turns = [path(generator.camera_config, settings.flight_frames, camera) for camera in cameras[:flights]]
            _draw_video("flight", render(w[:flights], torch.stack(turns)), settings.crf, folder)
        if anchors:
            count = anchors * settings.interpolation_frames
            path = points(cameras[:anchors], count, closed=True)
            views = render(interpolate_styles(w[:anchors], count), path[:, None])
            # N scenes from one camera each become N frames of one scene.
            as_frames = Views(*(None if values is None else values.swapaxes(0, 1) for values in views))
            _draw_video("interpolation", as_frames, settings.crf, folder)
        for number in range(meshes):
            _draw_mesh(generator, number, cameras[number], settings, folder)
            bar.advance()


def real_images(shards: ShardFolder, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first training images, uint8 `[N, R, R, 3]`, and their estimated depth, float32 `[N, R, R]`, each map from
    0 (near) to 1; None if the shards hold no depth."""
    rows = shards.read(0, ["image", "depth"]).slice(0, max(count, 1))
    images = decode_images(rows["image"])
    if shards.meta["estimator"] == "none":
        return images, None
    depth = np.stack([depth_from_bytes(data.as_buffer(), images.shape[1]) for data in rows["depth"]])
    return images, depth.astype(np.float32) / 65535


def _draw_samples(
    views: Views,
    real: tuple[np.ndarray, np.ndarray | None],
    shape: tuple[int, int],
    names: list[str],
    folder: Path,
) -> None:
    rows, columns = shape
    pairs_across = max(columns // 2, 1)  # so that a grid of pairs is as wide as one of images
    count = pairs_across * rows
    real_rgb, real_depth = real
    if real_depth is not None:
        real_rgb = beside(real_rgb, depth_colors(real_depth, bounds=(0, 1)))
    write_grid(folder / "real.png", real_rgb[:count], pairs_across, TILE)
    images = views.images[:, 0]
    write_grid(folder / "samples.png", images, columns, TILE, names)
    if views.depth is not None:
        depth = depth_colors(views.depth[:, 0])
        write_grid(folder / "depth.png", depth, columns, TILE, names)
        write_grid(folder / "normals.png", normal_colors(views.normals[:, 0]), columns, TILE, names)
        write_grid(folder / "pairs.png", beside(images, depth)[:count], pairs_across, TILE, names[:count])


def _draw_video(name: str, views: Views, crf: int, folder: Path) -> None:
    """All scenes side by side, images above depth."""
    rows = [views.images] if views.depth is None else [views.images, depth_colors(views.depth)]
    frames = np.concatenate(rows).swapaxes(0, 1)  # [F, 2 N, R, R, 3]
    factor = enlargement(frames.shape[2], FLIGHT_TILE)
    grids = (enlarge(grid(tiles, columns=len(views.images)), factor) for tiles in frames)
    write_video(folder / f"{name}{SUFFIX}", grids, FRAMES_PER_SECOND, crf)


def _draw_mesh(generator: Generator, number: int, camera: Tensor, settings: RenderConfig, folder: Path) -> None:
    scene = sample_scenes(generator, 1, settings.seed, start=number)
    content = scene_content(generator, scene, settings.truncation, settings.truncate_towards)
    cameras = front_circle(generator.camera_config, CAMERAS, camera)
    name = f"mesh-{number:03d}.glb"
    try:
        mesh = scene_mesh(generator, content, cameras, settings.mesh_resolution, Progress())
    except NoSurface as reason:  # after little training; everything else can be shown
        say(f"{name} is left out: {reason}")
        return
    # Where a viewer begins: the other side was never seen.
    mesh.metadata |= {"yaw": camera[YAW].item(), "pitch": camera[PITCH].item()}
    write_mesh(folder / name, mesh)
