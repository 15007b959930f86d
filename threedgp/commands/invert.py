"""``threedgp invert``: the scene of a model that looks like a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from threedgp.commands import options
from threedgp.commands.fly import FPS, PathName
from threedgp.runtime.errors import UserError

TILE_SIZE = 192
"""Size to which small images are enlarged on the sheet."""


def invert(
    model: options.ModelArgument,
    image: Annotated[Path, typer.Argument(help="Image file; its central square is used.")],
    class_: Annotated[
        str | None, typer.Option("--class", help="Class of the scene, by number or name. Default: the most similar.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, max=100_000, help="Steps that find style and camera.")] = 300,
    tune: Annotated[
        int, typer.Option(min=0, max=100_000, help="Steps that then adapt the model to the image; 0 = none.")
    ] = 150,
    depth: Annotated[
        Path | None, typer.Option(help="Depth map of the image, 16-bit PNG or .npy, to judge the found depth.")
    ] = None,
    path: Annotated[PathName, typer.Option(help="Path of the camera in the video.")] = "wiggle",
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of the video.")] = 48,
    size: options.SizeOption = None,
    mesh_resolution: Annotated[int, typer.Option(min=8, max=1024, help="Grid points along a side of the mesh.")] = 128,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of the random scenes for the start.")] = 0,
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/inverted"),
) -> None:
    """Find the scene of a model that looks like a photograph. For photo.jpg it writes photo.png (the image, the random
    scene at the start, the found scene, the scene after tuning, above their depth), photo_wiggle.mp4, photo.glb, and
    photo.json with style, camera and the quality of each scene.

    \b
    Example:
      threedgp invert results/model photo.jpg --class dog
    """
    import hashlib

    import numpy as np
    import torch

    from threedgp.api import open_model
    from threedgp.camera.trajectories import PATHS, front_circle
    from threedgp.commands.outputs import OutputFolder
    from threedgp.evaluation.likeness import likeness
    from threedgp.evaluation.sample_files import read_depth, read_images
    from threedgp.models import inversion
    from threedgp.runtime.atomic import write_json
    from threedgp.runtime.progress import Progress, progress
    from threedgp.visual.grids import depth_colors, write_grid
    from threedgp.visual.meshes import CAMERAS, NoSurface, scene_mesh, write_mesh
    from threedgp.visual.video import SUFFIX, write_video
    from threedgp.visual.views import render_views

    opened = open_model(model, device)
    opened.require_density("an inversion")
    generator, resolution = opened.generator, opened.resolution
    labels = [None] if class_ is None else options.class_list(class_, opened.class_names, "--class")
    if len(labels) > 1:
        raise UserError(f"--class: '{class_}' is more than one class; name one.")
    label = labels[0]
    picture = read_images([image], resolution)
    truth = None if depth is None else read_depth([depth], [image], resolution)[0, 0]
    origin: dict[str, Any] = {"model": opened.sha256, "image": hashlib.sha256(picture.tobytes()).hexdigest()}
    origin |= {"depth": None if truth is None else hashlib.sha256(truth.tobytes()).hexdigest(), "label": label}
    origin |= dict(steps=steps, tune=tune, path=path, frames=frames, size=size, mesh=mesh_resolution, seed=seed)
    files = [f"{image.stem}{end}" for end in (".png", f"_{path}{SUFFIX}", ".glb", ".json")]
    for given in filter(None, (image, depth)):
        if given.resolve() in [(out / file).resolve() for file in files]:
            raise UserError(f"--out: a result would replace {given}; choose another folder.")
    folder = OutputFolder(out)
    if all(folder.holds(file, origin) for file in files):
        print(f"{out}: {folder.summary(len(files))}.")
        return

    target = torch.from_numpy(picture).to(generator.device, generator.dtype) / 127.5 - 1
    with progress("invert", inversion.CANDIDATES // inversion.BATCH + steps + tune, unit="steps") as bar:
        found = inversion.invert(generator, target, label, steps=steps, seed=seed, bar=bar)
        tuned = inversion.tune(generator, target, found, steps=tune, bar=bar) if tune else generator
    scenes = {"start": (generator, *found.start), "found": (generator, found.w, found.camera)}
    if tune:
        scenes["tuned"] = (tuned, found.w, found.camera)
    views = {
        name: render_views(network, w, camera[:, None], resolution, Progress())
        for name, (network, w, camera) in scenes.items()
    }
    quality = {name: likeness(view.images[0, 0], view.depth[0, 0], picture[0], truth) for name, view in views.items()}

    source = picture.transpose(0, 2, 3, 1)
    blank = np.full_like(source, 255) if truth is None else depth_colors(truth[None])
    rows = [source, *(view.images[:, 0] for view in views.values()), blank]
    rows += [depth_colors(view.depth[:, 0]) for view in views.values()]
    with folder.adding(files[0], origin) as target_file:
        labels = [image.name, *views, "" if truth is None else "true depth", *[f"depth, {name}" for name in views]]
        write_grid(target_file, np.concatenate(rows), len(views) + 1, TILE_SIZE, labels)
    way = PATHS[path](generator.camera_config, frames, found.camera[0])
    with progress("invert: video", frames, unit="frames") as bar:
        flight = render_views(tuned, found.w, way[None], size or resolution, bar)
    with folder.adding(files[1], origin) as target_file:
        write_video(target_file, flight.images[0], FPS)
    with folder.adding(files[3], origin) as target_file:
        about = {"camera": found.camera[0].tolist(), "w": found.w[0].tolist(), "quality": quality}
        write_json(target_file, {"image": str(image), "model": str(model), **origin, **about})
    for name, values in quality.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))
    with progress("invert: mesh", mesh_resolution, unit="planes") as bar, torch.inference_mode():
        around = front_circle(generator.camera_config, CAMERAS, found.camera[0])
        try:
            surface = scene_mesh(tuned, tuned.make_content(found.w), around, mesh_resolution, bar)
        except NoSurface as reason:
            raise UserError(f"{files[2]}: {reason}") from None
    with folder.adding(files[2], origin) as target_file:
        write_mesh(target_file, surface)
    print(f"{out}: {folder.summary(len(files))}.")
