"""``threedgp export``: scenes in the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.api import Model, Scene
    from threedgp.runtime.progress import Progress

FILES = {
    "transforms": "/transforms.json",
    "colmap": "/sparse/0/cameras.txt",
    "points": "_points.ply",
    "splat": "_splat.ply",
    "gltf": "_textured.glb",
    "stl": ".stl",
}
"""By format: what follows the name of the scene. Of several files, this one is written last."""
VIEWS = {"transforms", "colmap", "points", "splat"}
"""Formats that are made from rendered views; the others are meshes."""
WITH_IMAGES = ("transforms", "colmap")
"""Formats that share the folder of images of a scene."""
PathName = Literal["front_disk", "front_circle", "line", "wiggle", "orbit"]


def export(
    model: options.ModelArgument = options.MODEL,
    format: Annotated[
        str, typer.Option(metavar="LIST", help="One or more of transforms, colmap, points, splat, gltf and stl.")
    ] = "transforms",
    seeds: options.SeedsOption = "0",
    classes: options.ClassesOption = None,
    views: Annotated[int, typer.Option(min=2, max=10_000, help="Number of rendered views.")] = 48,
    path: Annotated[
        PathName, typer.Option(help="Cameras of the views: spread over the front of the scene, or a path as in fly.")
    ] = "front_disk",
    size: options.SizeOption = None,
    resolution: Annotated[int, typer.Option(min=8, max=1024, help="gltf, stl: grid points along a side.")] = 96,
    texture: Annotated[int, typer.Option(min=64, max=4096, help="gltf: texels along a side of the texture.")] = 1024,
    truncation: options.TruncationOption = 1.0,
    towards: options.TowardsOption = "all",
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("results/export"),
) -> None:
    """Write scenes for other programs. The same command run again writes only what is missing.

    \b
    transforms  NAME/transforms.json, images, depth: for nerfstudio
    colmap      NAME/sparse/0, images: for COLMAP and 3D Gaussian Splatting
    points      NAME_points.ply: point cloud with normals and colors
    splat       NAME_splat.ply: 3D Gaussians, for splat viewers
    gltf        NAME_textured.glb: mesh with a texture, for Blender and web pages
    stl         NAME.stl: mesh for printing

    \b
    Example:
      threedgp export results/model --format transforms,splat --seeds 0-3 --classes 2 --size 256
    """
    from threedgp.api import make_scene, open_model
    from threedgp.camera.trajectories import front_circle
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.export.textures import require_xatlas, write_textured
    from threedgp.runtime.atomic import write_bytes
    from threedgp.runtime.progress import progress
    from threedgp.visual.meshes import CAMERAS, NoSurface, scene_mesh
    from threedgp.visual.styles import scene_content
    from threedgp.visual.views import posterior_cameras

    formats = options.format_list(format, FILES)
    if "gltf" in formats:
        require_xatlas()
    opened = open_model(model, device)
    opened.require_density("an export")
    generator = opened.generator
    chosen = options.scene_list(seeds, classes, opened.class_names)
    style = dict(truncation=truncation, towards=towards)
    of_views = style | dict(views=views, path=path, size=size or opened.resolution)
    of_meshes = style | dict(resolution=resolution)
    folder = OutputFolder(out)
    without_surface = []
    steps = views * bool(set(formats) & VIEWS) + resolution * bool(set(formats) - VIEWS)
    with progress("export", len(chosen) * steps, unit="steps") as bar:
        for seed, label in chosen:
            scene = make_scene(opened, seed, label)
            name = scene.name(truncation)
            bar.note(name)
            made_by = {"model": opened.sha256, "seed": scene.seed, "label": scene.label}
            origins = {one: made_by | (of_views if one in VIEWS else of_meshes) for one in FILES}
            origins["gltf"]["texture"] = texture
            missing = {one for one in formats if not folder.holds(name + FILES[one], origins[one])}
            stale = [name + FILES[one] for one in WITH_IMAGES if not folder.holds(name + FILES[one], origins[one])]
            if missing & VIEWS:
                write = _view_writer(opened, scene, of_views, bar)
                for one in sorted(missing & VIEWS):
                    with folder.adding(name + FILES[one], origins[one]) as target:
                        while one in WITH_IMAGES and stale:  # a list of other images must not outlive them
                            (out / stale.pop()).unlink(missing_ok=True)
                        write(one, target)
            elif set(formats) & VIEWS:
                bar.advance(views)
            if missing - VIEWS:
                content = scene_content(generator, scene.inputs, truncation, towards)
                cameras = front_circle(generator.camera_config, CAMERAS, posterior_cameras(generator, scene.inputs)[0])
                try:
                    mesh = scene_mesh(generator, content, cameras, resolution, bar)
                except NoSurface as reason:  # the other scenes may have one
                    without_surface.append(f"{name}: {reason}")
                    continue
                for one in sorted(missing - VIEWS):
                    with folder.adding(name + FILES[one], origins[one]) as target:
                        if one == "gltf":
                            write_textured(target, mesh, generator, content, texture)
                        else:
                            write_bytes(target, mesh.export(file_type="stl"))
            elif set(formats) - VIEWS:
                bar.advance(resolution)
    if without_surface:
        rest = f" ({len(without_surface)} of {len(chosen)} scenes have none.)" if len(chosen) > 1 else ""
        raise UserError(f"{without_surface[0]}{rest}")
    summary = folder.summary(len(chosen) * len(formats))
    print(f"{out}: {count_of(len(chosen), 'scene')} as {', '.join(formats)}; {summary}.")


def _view_writer(model: Model, scene: Scene, settings: dict[str, Any], bar: Progress) -> Callable[[str, Path], None]:
    """Render the views of a scene; returns what writes one of the formats `VIEWS` to a file."""
    from threedgp.camera.trajectories import PATHS, front_disk
    from threedgp.export.cameras import write_colmap, write_transforms
    from threedgp.export.ply import write_gaussians, write_points
    from threedgp.export.surface import surface_samples
    from threedgp.visual.styles import scene_styles
    from threedgp.visual.views import posterior_cameras, render_views

    generator, config = model.generator, model.generator.camera_config
    follow = {"front_disk": front_disk, **PATHS}[settings["path"]]
    cameras = follow(config, settings["views"], posterior_cameras(generator, scene.inputs)[0])
    w = scene_styles(generator, scene.inputs, settings["truncation"], settings["towards"])
    views = render_views(generator, w, cameras[None], settings["size"], bar)
    samples = surface_samples(views, cameras, (config.ray_start, config.ray_end))

    def write(format: str, target: Path) -> None:
        if format == "transforms":
            write_transforms(target.parent, views, cameras, samples)
        elif format == "colmap":
            write_colmap(target.parents[2], views, cameras, samples)
        else:
            (write_points if format == "points" else write_gaussians)(target, samples)

    return write
