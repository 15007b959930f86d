"""``threedgp new``: settings for one's own images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from threedgp.commands.options import PARAMS, DeviceOption, ForceOption, ParamsOption
from threedgp.commands.preset import (
    list_presets,
    preset_values,
    remember,
    require_replaceable,
    write_values,
)
from threedgp.commands.requirements import images_problem
from threedgp.commands.survey import Survey, survey_images
from threedgp.config import DepthConfig, parse_config
from threedgp.config.fields import MIN_IMAGES
from threedgp.data.source import get_source
from threedgp.depth.estimator import NetworkKind, get_estimator
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say

ESTIMATOR = "depth_anything_v2"
SMALL_WEIGHTS = "depth-anything/Depth-Anything-V2-Small-hf"
"""The largest ones of the default estimator are licensed for non-commercial use only."""
PASSES = 100
"""How often each image is shown, within the bounds of `SCALES`."""
CPU_RESOLUTION, GPU_RESOLUTION = 32, 128
"""Maximum resolution that is chosen; --resolution asks for others."""
FRONTAL = [-1.57079633, 1.57079633]
"""Yaw of photographs: few show their object from behind."""

Scale = tuple[str, float, float]
SCALES: dict[int, Scale] = {
    64: ("cifar10", 20, 400),
    128: ("toy_gpu", 100, 5000),
    4096: ("imagenet", 200, 25000),
}
"""By the maximum resolution: the preset that the networks and schedules come from, minimum and maximum of kimg."""

INTERVALS = {
    "tick_kimg": (1 / 60, 0.1),
    "save_kimg": (1 / 20, 0.5),
    "pictures_kimg": (1 / 20, 0.5),
    "metric_kimg": (1 / 20, 0.5),
}
"""Intervals as fractions of the run, and their minima in kimg."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the data set; outputs go to data/NAME.")],
    images: Annotated[
        str, typer.Option(help="Folder, zip or tar; the first folder of a path is the class. Or owner/name on the hub.")
    ],
    depth: Annotated[
        str | None,
        typer.Option(help="Folder of 16-bit depth maps: that of the images (NAME_depth.png), or `depth` beside it."),
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the images, a power of two.")] = None,
    estimator: Annotated[str | None, typer.Option(help="As in `depth.estimator`; none = learn without depth.")] = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    params: ParamsOption = PARAMS,
) -> None:
    """Write settings for your own images into params.yaml, and say what was chosen and why (docs/your_data.md).

    \b
    Example:
      threedgp new cows --images ../cows
    """
    if not force:
        require_replaceable(params)
    taken = {preset_values(preset.name)["dataset"]["name"] for preset in list_presets()}
    if name in taken:
        raise UserError(f"NAME: '{name}' is the data set of a preset; choose another name.")
    if estimator is not None and estimator not in _estimators():
        raise UserError(f"--estimator: there is no '{estimator}'; choose one of {', '.join(_estimators())}.")
    source, path = _place(images, depth)
    survey = survey_images(source, path)
    memory = _gpu_memory() if device != "cpu" else None
    reasons: list[str] = []
    on_gpu = memory is not None or device == "cuda"
    side = _resolution(survey, on_gpu, reasons) if resolution is None else resolution
    values = _settings(name, source, path, survey, side, estimator, reasons)
    config = parse_config(values, "the settings for these images")
    if problem := images_problem(config):
        raise UserError(f"{problem}.")
    if memory is not None:
        _fit_into_memory(values, len(survey.classes), memory, reasons)
    write_values(values, params)
    remember(values)
    for line in (*survey.lines(side), *reasons):
        say(line)
    kind = get_estimator(config.depth.estimator)
    if isinstance(kind, NetworkKind):
        license = "" if config.depth.weights else f", license of its weights: {kind.license}"
        print(f"Depth is estimated by {config.depth.estimator}{license} (docs/depth.md compares the estimators).")
    print(f"{params} holds the settings. Next: `threedgp check`, `threedgp plan`, `dvc repro`.")


def _estimators() -> tuple[str, ...]:
    return get_args(DepthConfig.model_fields["estimator"].annotation)


def _gpu_memory() -> int | None:
    """Bytes of the GPU's memory; None without a GPU."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def _fit_into_memory(values: dict[str, Any], num_classes: int, memory: int, reasons: list[str]) -> None:
    """Divide batches into pieces (`train.accumulation`) that fit into `memory` bytes of a GPU."""
    from threedgp.training.counting import count_step
    from threedgp.training.devices import fitting_piece, pieces_needed

    config = parse_config({**values, "machine": {}})
    batch, group = config.train.batch_size, config.model.discriminator.minibatch_std_group
    fitting = fitting_piece(count_step(config, num_classes=num_classes), memory, batch, group)
    pieces = pieces_needed(batch, fitting, group)
    if pieces is None:
        reasons.append("The GPU is too small for these networks; lower --resolution.")
        return
    values["train"]["accumulation"] = pieces
    reasons.append(
        f"Batch: {batch} images, {batch // pieces} at once; at most {fitting} fit into {memory / 1e9:.0f} GB."
    )


def _place(images: str, depth: str | None) -> tuple[Literal["folder", "rgbd", "hub"], str]:
    """The source for these images, and its `dataset.path`."""
    if get_source("hub").is_address(images) or any(_parquet(expanded(images))):
        if depth is not None:
            raise UserError("--depth: images of the hub have no depth maps beside them; leave the option out.")
        return "hub", images
    if depth is None:
        return "folder", images
    pictures, maps = Path(images), Path(depth)
    if pictures.resolve() == maps.resolve():
        return "rgbd", images
    if not (pictures.name == "images" and maps.name == "depth" and pictures.parent.resolve() == maps.parent.resolve()):
        raise UserError(
            f"--depth: {depth} is neither the folder of the images nor a folder 'depth' beside a folder 'images'; "
            "rename or move them so."
        )
    return "rgbd", str(pictures.parent)


def _parquet(folder: Path) -> Iterable[Path]:
    return (*folder.glob("*.parquet"), *folder.glob("data/*.parquet"))


def _resolution(survey: Survey, on_gpu: bool, reasons: list[str]) -> int:
    """The largest power of two up to the median side of the images, and up to what the device can train."""
    limit = GPU_RESOLUTION if on_gpu else CPU_RESOLUTION
    median = survey.median_side
    fitting = limit if median is None else max(2 ** (median.bit_length() - 1), 8)
    side = min(fitting, limit)
    why = f"the images have {median} px" if fitting < limit else f"for training on a {'GPU' if on_gpu else 'CPU'}"
    reasons.append(f"Resolution: {side} px ({why}; --resolution sets another one).")
    return side


def _round(value: float) -> float:
    """`value` with two significant digits, as an integer from 10 on."""
    rounded = float(f"{value:.2g}")
    return int(rounded) if rounded >= 10 else rounded


def _settings(
    name: str, source: str, path: str, survey: Survey, side: int, estimator: str | None, reasons: list[str]
) -> dict[str, Any]:
    """The settings, a value for every key. Appends to `reasons` what was chosen and why."""
    base, min_kimg, max_kimg = next((scale for limit, scale in SCALES.items() if side <= limit), SCALES[4096])
    values = preset_values(base)
    usable = survey.count - survey.num_left_out(side)
    if usable < MIN_IMAGES:
        found = f"{path} has {usable} images that can be used at {side} px"
        raise UserError(f"--images: {found}; {MIN_IMAGES} are needed, so add some, or lower --resolution.")
    kimg = _round(min(max(usable * PASSES / 1000, min_kimg), max_kimg))
    classes = len(survey.classes)
    reasons.append(
        f"Networks and schedules: those of preset {base}, {'' if classes > 1 else 'not '}conditioned on the class."
    )
    reasons.append(f"Training: {kimg:g} thousand images, each of yours about {kimg * 1000 / usable:.0f} times.")
    if usable < 1000:
        reasons.append("With fewer than 1,000 images the discriminator memorizes them; expect little variety.")
    base_side = values["dataset"]["resolution"]
    values["dataset"] |= {"name": name, "source": source, "path": path, "subset": None, "resolution": side}
    values["camera"]["yaw"] = FRONTAL
    values["model"]["class_conditional"] = classes > 1
    values["select"] |= {"keep_fraction": 1.0, "keep_count": None}
    values["report"]["title"] = f"3DGP on {name}"
    train, generator = values["train"], values["model"]["generator"]
    if side <= 64:
        generator["plane_resolution"] = max(side, 16)
        discriminator = values["model"]["discriminator"]
        discriminator["patch_resolution"] = max(discriminator["patch_resolution"] * side // base_side, 4)
        train["batch_size"] = 16 if usable >= 64 else 8
        for section in ("features", "embed"):
            values[section]["input_size"] = max(2 * side, 32)
    if usable < 256:
        values["shards"]["row_group_rows"] = 8  # images that are read together must not be a quarter of all
    for key, (fraction, smallest) in INTERVALS.items():
        train[key] = _round(max(kimg * fraction, smallest))
    for schedule in ("density_noise", "blur_sigma", "patch_scale_beta", "raw_depth_probability"):
        train[schedule]["over"] = _share(train[schedule]["over"], train["kimg"])
    train["camera_regularizer"]["anneal"] = _share(train["camera_regularizer"]["anneal"], train["kimg"])
    weight = train["distillation"]["weight"]
    if not str(weight["over"]).endswith("%"):  # published: a ramp that is longer than the run
        reached = min(train["kimg"] / weight["over"], 1.0)
        weight |= {"end": weight["start"] + (weight["end"] - weight["start"]) * reached, "over": "100%"}
    train["kimg"] = kimg
    train["metric_samples"] = min(train["metric_samples"], max(usable // 2, MIN_IMAGES))
    values["evaluate"]["samples"] = min(values["evaluate"]["samples"], max(usable, 256))
    chosen = estimator or ("sidecar" if source == "rgbd" else ESTIMATOR)
    values["depth"] |= {"estimator": chosen, "weights": SMALL_WEIGHTS if chosen == ESTIMATOR else None}
    values["model"]["depth"] = chosen != "none"
    return values


def _share(duration: str | float, kimg: float) -> str:
    """The length of a schedule as a percentage of a run of `kimg`."""
    text = str(duration)
    return text if text.endswith("%") else f"{100 * min(float(text) / kimg, 1.0):g}%"
