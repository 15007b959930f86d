"""``threedgp plan``: what a run needs, before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.commands.preset import preset_values
from threedgp.commands.requirements import (
    DEFAULT_FEATURE_DIM,
    FEATURE_DIMS,
    disk_space,
    num_images_and_classes,
    num_training_images,
)
from threedgp.config import Config, batch_problem, load_config, parse_config
from threedgp.config.reading import read_yaml
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import amount, duration

HERE = "this"
RECOGNIZABLE = ((64, 28, "measured at 32 px, docs/results.md"), (128, 300, "assumed"), (4096, 1500, "assumed"))
"""Thousands of images after which half of the samples are recognized, by the maximum resolution, and where this is
from."""
GRID_SCENES = 16
"""Scenes of a grid of samples, as stage `train` draws them."""
LONG_DAYS = 30
"""Longer runs are advised against."""


class Pace(NamedTuple):
    """Speed and memory of training on a device."""

    device: str
    images_per_second: float
    """Images per second of all processes together."""
    origin: str
    measuring_seconds: float
    """Time of all measurements and samples during training."""
    needed_bytes: float
    """Memory of one process."""
    memory: float
    """Bytes that the device has."""
    max_piece: int
    """Images of a process that fit into memory at once."""


def plan(
    preset: Annotated[str | None, typer.Argument(help="Preset to plan. Default: the settings in params.yaml.")] = None,
    device: Annotated[str, typer.Option(help="GPU to compute for, such as h100; `this` measures this machine.")] = HERE,
    gpus: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of GPUs. Default: machine.processes.")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Price of a GPU per hour.")] = None,
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="Time to measure for.")] = 20.0,
    params: ParamsOption = PARAMS,
) -> None:
    """Show what a run needs: disk, memory, time and money, and what to change where it does not fit.

    \b
    Example:
      threedgp plan imagenet --device a100 --gpus 8 --price 2
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from threedgp.training.devices import CARDS

    if device != HERE and device not in CARDS:
        raise UserError(f"--device: '{device}' is unknown; choose {HERE} or one of {', '.join(CARDS)}.")
    config = _config(preset, params, gpus)
    if problem := batch_problem(config, config.machine.processes):
        raise UserError(f"{problem}; change --gpus or the batch size.")
    pace = _measured(config, seconds) if device == HERE else _computed(config, device)
    table = Table.grid(padding=(0, 2))
    for name, text in (*_disk_rows(config), *_training_rows(config, pace, price)):
        table.add_row(name, Text(text))
    console = Console()
    console.print(table)
    for line in _advice(config, pace):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _config(preset: str | None, params: Path, gpus: int | None) -> Config:
    """The settings of the preset, or of the file, for `gpus` processes."""
    if preset is None:
        config = load_config(params)
    else:
        values = preset_values(preset)
        current = read_yaml(params) if params.is_file() else {}
        if isinstance(current, dict) and "machine" in current:
            values["machine"] = current["machine"]
        config = parse_config(values, f"preset {preset}")
    if gpus is None:
        return config
    return config.model_copy(update={"machine": config.machine.model_copy(update={"processes": gpus})})


def _sizes(config: Config) -> tuple[int, int]:
    """Numbers of classes and of features to distill."""
    counts = num_images_and_classes(config, Path("data") / config.dataset.name)
    classes = counts[1] if counts and counts[1] < counts[0] else 1
    return classes, FEATURE_DIMS.get(config.embed.network, DEFAULT_FEATURE_DIM)


def _computed(config: Config, device: str) -> Pace:
    """Speed and memory on a GPU that this machine need not have, computed from arithmetic and memory traffic."""
    from threedgp.training.counting import count_step
    from threedgp.training.devices import (
        BANDWIDTH_SHARE,
        CARDS,
        COMPUTE_SHARE,
        fitting_piece,
        needed_bytes,
        step_seconds,
    )

    card, train = CARDS[device], config.train
    count = count_step(config, "triton", *_sizes(config))
    rate = train.batch_size / step_seconds(count, card, train.r1_interval)
    flops = sum(one.flops for one in count.usual_step) * config.machine.processes / train.batch_size
    origin = (
        f"computed from {flops / 1e9:,.0f} GFLOP per image, with {COMPUTE_SHARE:.0%} of the card's {train.precision} "
        f"arithmetic or {BANDWIDTH_SHARE:.0%} of its bandwidth per operator (assumptions)"
    )
    piece, group = _piece(config), config.model.discriminator.minibatch_std_group
    fitting = fitting_piece(count, card.memory * 1e9, piece, group)
    return Pace(card.name, rate, origin, 0.0, needed_bytes(count), card.memory * 1e9, fitting)


def _measured(config: Config, seconds: float) -> Pace:
    """Speed and memory on the device of `machine.device`, measured for `seconds`."""
    import torch

    from threedgp.commands.trial import run_trial
    from threedgp.render.native import compositing
    from threedgp.runtime.allocator import keep_freed_memory
    from threedgp.runtime.device import choose_device
    from threedgp.runtime.progress import say
    from threedgp.training.counting import count_step
    from threedgp.training.devices import fitting_piece

    device = choose_device(config.machine.device)
    if device.type == "cuda":
        backend, name = "triton", torch.cuda.get_device_name(device)
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        keep_freed_memory()
        backend, name = "torch" if compositing.unavailable_reason() else "native", f"CPU, {os.cpu_count()} cores"
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    say(f"plan: training on noise for {seconds:g} s")
    trial = run_trial(config, device, seconds, *_sizes(config))
    train = config.train
    grids = train.kimg / train.pictures_kimg if train.pictures_kimg else 0
    measurements = train.kimg / train.metric_kimg if train.metric_kimg else 0
    measuring = measurements * trial.measurement_seconds / config.machine.processes
    measuring += grids * GRID_SCENES * trial.sample_seconds
    fitting = fitting_piece(
        count_step(config, backend, *_sizes(config)),
        memory,
        _piece(config),
        config.model.discriminator.minibatch_std_group,
    )
    rate = train.batch_size / trial.step_seconds
    origin = f"measured for {seconds:g} s" + ("" if trial.with_features else "; features of measurements not included")
    return Pace(name, rate, origin, measuring, trial.peak_bytes, memory, fitting)


def _piece(config: Config) -> int:
    """Images that a process works on at once."""
    return config.train.batch_size // (config.machine.processes * config.train.accumulation)


def _disk_rows(config: Config) -> Iterator[tuple[str, str]]:
    counts = num_images_and_classes(config, Path("data") / config.dataset.name)
    if counts is None:
        yield "Images", "their number is known after stage download"
        return
    yield "Images", f"{counts[0]:,}, of which {num_training_images(config):,} are kept"
    space = disk_space(config, remaining=False)
    for stage, size in space.outputs.items():
        if size:
            yield f"Disk, {stage}", amount(size)
    for stage, size in space.temporary.items():
        yield f"Disk, while {stage} runs", amount(size)
    unknown = ", and downloads of unknown size" if space.download_unknown else ""
    yield "Disk, at most", f"{amount(space.peak)} with results{unknown}; {amount(shutil.disk_usage('.').free)} are free"


def _training_rows(config: Config, pace: Pace, price: float | None) -> Iterator[tuple[str, str]]:
    processes, train = config.machine.processes, config.train
    yield "Device", f"{pace.device}" + (f", {processes} of them" if processes > 1 else "")
    yield "Speed", f"{pace.images_per_second:.3g} images/s: {pace.origin}"
    yield "Memory", f"{amount(pace.needed_bytes)} of {amount(pace.memory)}"
    yield "Batch", f"{_piece(config)} images at once; at most {pace.max_piece:,} fit"
    total = _seconds(config, pace)
    yield "Stage train", f"{train.kimg:,g} thousand images: {duration(total)}"
    hours = total * processes / 3600
    yield "Device time", f"{hours / 24:.3g} days, {hours:.3g} hours"
    if price is not None:
        yield "Cost", f"{hours * price:,.2f} at {price:g} per hour"
    _, kimg, origin = next(one for one in RECOGNIZABLE if config.dataset.resolution <= one[0])
    when = "after the end of this run" if kimg > train.kimg else duration(kimg * 1000 / pace.images_per_second)
    yield "Recognizable images", f"half of them after about {kimg:,} thousand images ({origin}): {when}"
    yield "Not included", "stages before and after train (docs/data.md, Time)"


def _seconds(config: Config, pace: Pace) -> float:
    """Length of stage train."""
    return config.train.kimg * 1000 / pace.images_per_second + pace.measuring_seconds


def _advice(config: Config, pace: Pace) -> Iterator[str]:
    """What to change where the run does not fit."""
    from threedgp.training.devices import pieces_needed

    space = disk_space(config)
    if space and space.peak > shutil.disk_usage(".").free:
        lower = "lower select.keep_fraction or dataset.resolution, or raise train.archive_kimg"
        yield f"Disk: {amount(space.peak)} are needed; free some, or {lower}."
    piece, group = _piece(config), config.model.discriminator.minibatch_std_group
    if pace.max_piece < piece:
        pieces = pieces_needed(piece, pace.max_piece, group)
        if pieces:
            yield f"Memory: set train.accumulation to {config.train.accumulation * pieces}, which gives the same model."
        else:
            yield "Memory: not even one group fits; lower model.generator.plane_resolution or channel_base."
        if config.train.precision != "bf16":
            yield "Memory: train.precision: bf16 halves the activations of the networks."
        if not config.model.recompute:
            yield "Memory: model.recompute: true stores less, and runs the backbone's forward pass twice."
    days = _seconds(config, pace) / 86400
    if days > LONG_DAYS:
        yield f"Time: {days:,.0f} days; use more GPUs, train.precision bf16, or lower train.kimg or dataset.resolution."
