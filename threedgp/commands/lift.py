"""``threedgp lift``: images and their depth, seen from other cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands import options
from threedgp.commands.fly import FPS, FRAMES, PathName
from threedgp.runtime.errors import UserError


def lift(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images, or a .npz file with arr_0.")],
    estimator: Annotated[
        str | None, typer.Option(help="Depth estimator, as in `depth.estimator`. Default: that of --params.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="As in `depth.weights`.")] = None,
    depth: Annotated[
        Path | None, typer.Option(help="Folder of depth maps instead, 16-bit PNG or .npy, larger = farther.")
    ] = None,
    path: Annotated[
        PathName | None, typer.Option(help="Videos along this path of cameras, not an image from a random camera.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of a video.")] = FRAMES,
    fps: Annotated[int, typer.Option(min=1, max=240, help="Frames per second.")] = FPS,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of the cameras.")] = 0,
    size: options.SizeOption = None,
    device: options.DeviceOption = "auto",
    params: options.ParamsOption = options.PARAMS,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/lifted"),
) -> None:
    """Show photographs, or samples of a 2D generator, from other cameras. Each image becomes two layers on its depth,
    as seen by the camera in the middle of the prior (section `camera` of params.yaml). A random camera of the prior, or
    cameras along a path, look at them. Results are named by the number of the image, from 0 in the order of the paths,
    like 00000003_wiggle.mp4. The same command run again writes only what is missing.

    \b
    Examples:
      threedgp lift ../photographs --estimator depth_anything_v2 --path wiggle
      threedgp lift stylegan_xl.npz && python -m stages.evaluate --images results/lifted
    """
    import json
    import tempfile

    import numpy as np
    import torch

    from threedgp.camera.priors import PRIOR_DRAWS, frontal_cameras, prior_cameras
    from threedgp.camera.trajectories import PATHS
    from threedgp.commands.outputs import OutputFolder, count_of
    from threedgp.config import load_config
    from threedgp.depth.estimator import build_estimator
    from threedgp.evaluation.external import listing_key
    from threedgp.evaluation.sample_files import open_samples
    from threedgp.evaluation.scenes import estimated_maps
    from threedgp.runtime.counter_rng import uniform
    from threedgp.runtime.progress import progress
    from threedgp.visual.grids import write_png
    from threedgp.visual.layers import render_layers, split_layers
    from threedgp.visual.video import SUFFIX, write_video

    if depth and (estimator or weights):
        raise UserError("--depth and --estimator or --weights: both set the depth; leave one out.")
    if not path and (frames, fps) != (FRAMES, FPS):
        raise UserError("--frames and --fps: are for videos; add --path.")
    if path and seed:
        raise UserError("--seed and --path: a path has no random cameras; leave one out.")
    if out.resolve().is_relative_to(images.resolve()):
        raise UserError(f"--out: {out} is inside {images}, so its images would be lifted, too; choose another folder.")
    config = load_config(params)
    settings, prior, pixels = config.depth, config.camera, size or config.dataset.resolution
    if estimator or weights:
        changes = {"estimator": estimator or settings.estimator, "weights": weights}
        settings = options.depth_settings(settings.model_dump() | changes)
    middle = frontal_cameras(prior, 1)[0]

    def cameras_for(number: int) -> torch.Tensor:
        if path:
            return PATHS[path](prior, frames, middle)
        return prior_cameras(prior, uniform((1, PRIOR_DRAWS), seed, "lift", torch.tensor([number])))

    suffix = f"_{path}{SUFFIX}" if path else ".png"
    made_with = dict(depth=None if depth else [settings.estimator, settings.weights], camera=prior.model_dump())
    made_with |= dict(size=pixels, path=path, **(dict(frames=frames, fps=fps) if path else dict(seed=seed)))
    with tempfile.TemporaryDirectory(prefix="threedgp-lift-") as scratch:
        samples = open_samples(images, depth, None, pixels, Path(scratch), range)
        network = None if depth else build_estimator(settings, device, config.machine.mirror)
        if network is not None and not network.looks_at_pixels:
            raise UserError(
                f"depth.estimator: '{network.name}' does not estimate depth from pixels; choose one with --estimator, "
                "such as depth_anything_v2, or give maps with --depth."
            )
        total, first, folder = len(samples.images), 0, OutputFolder(out)
        origin = json.loads(json.dumps({"images": listing_key(images, depth), **made_with}))  # as it will be read again
        with progress("lift", total) as bar:
            for part, batch in enumerate(samples.images):
                names = {number: f"{number:08d}{suffix}" for number in range(first, first + len(batch))}
                missing = [number for number, name in names.items() if not folder.holds(name, origin)]
                bar.advance(len(batch) - len(missing))
                rows = [number - first for number in missing]
                if samples.depth:
                    maps = samples.depth.parts[part]()[rows, 0]
                else:
                    maps = estimated_maps(network, batch[rows], first) if rows else []
                for number, row, found in zip(missing, rows, maps, strict=True):
                    image = np.ascontiguousarray(batch[row].transpose(1, 2, 0))
                    layers = split_layers(image, found, middle, prior.ray_start, prior.ray_end)
                    views = render_layers(layers, cameras_for(number))
                    with folder.adding(names[number], origin) as target:
                        write_video(target, views, fps) if path else write_png(target, views[0])
                    bar.advance()
                first += len(batch)
    print(f"{out}: {count_of(total, 'image')}; {folder.summary(total)}.")
