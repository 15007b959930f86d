"""Parameters and cost of every kind of model, for docs/kinds.md, and what fits into a GPU, for docs/cluster.md.

    python benchmarks/kinds.py imagenet epigraf eg3d stylegan2 volumegan stylenerf
    python benchmarks/kinds.py imagenet --memory

Sizes, floating-point operations and memory are counted on PyTorch's meta device, without a GPU: convolutions and matrix
products of one image at inference, and of a training step (without the gradient penalty) for each real image; memory is
that of tensors in the step with the penalty. With --seconds, generation is also timed on one thread of the CPU, for
presets of toy sizes.

With --memory, it prints instead the memory of a step by precision, recomputation and number of images at once, and how
many images fit into GPUs. Bytes are those of `threedgp plan`: counted tensors, 10 % for the allocator, 1 GB for CUDA.
Two sizes are counted and all others lie on their line, since activations are proportional to images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import product
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from threedgp.commands.preset import overridden, preset_values
from threedgp.config import Config, parse_config
from threedgp.models.initialization import initial_networks
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.render.backends import assume
from threedgp.training.counting import META, count_step, meta_trainer
from threedgp.training.devices import needed_bytes

CLASSES, FEATURES = {"imagenet": 1000, "toy": 10}, 2048
TURNS, IMAGES = 5, 8
CARDS = (12, 16, 24, 40, 80)
"""GB of memory."""


def seconds_per_image(config: Config, num_classes: int) -> float:
    """Median processor time of generating an image."""
    generator, _ = initial_networks(config, num_classes, [1 / num_classes] * num_classes, FEATURES)
    found = []
    for turn in range(TURNS + 1):
        start = time.process_time()
        render_scenes(generator.eval(), sample_scenes(generator, IMAGES, turn), config.dataset.resolution)
        found.append((time.process_time() - start) / IMAGES)
    return median(found[1:])


def row(name: str, seconds: bool) -> list[str]:
    """Cells of the table for a preset."""
    config = parse_config(preset_values(name))
    num_classes = CLASSES[config.dataset.name]
    with assume("torch"):
        trainer = meta_trainer(config, num_classes, FEATURES)
        generator, discriminator = trainer.average, trainer.discriminator
        with META, FlopCounterMode(display=False) as flops:
            render_scenes(generator, sample_scenes(generator, 1, 0), config.dataset.resolution)
    step = count_step(config, "torch", num_classes, FEATURES)
    batch = config.train.batch_size
    millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (generator, discriminator)]
    cells = [f"`{name}`", *(f"{count:.3g}" for count in millions), f"{flops.get_total_flops() / 1e9:.3g}"]
    cells.append(f"{sum(one.flops for one in step.usual_step) / batch / 1e9:.3g}")
    cells.append(f"{(step.peak_bytes - step.state_bytes) / batch / 1e9:.2g}")
    if seconds:
        cells.append(f"{seconds_per_image(config, num_classes) * 1000:.3g}")
    return cells


def memory_line(preset: str, precision: str, recompute: bool, group: int) -> tuple[float, float]:
    """Bytes of a step without images, and bytes of an image, by two steps of two pieces each: all further ones need as
    much as the second."""
    counted = []
    for piece in (group, 2 * group):
        changes = {"train.batch_size": 2 * piece, "train.accumulation": 2, "train.precision": precision}
        config = parse_config(overridden(preset_values(preset), changes | {"model.recompute": recompute}))
        counted.append(needed_bytes(count_step(config, "triton", CLASSES[config.dataset.name], FEATURES)))
    slope = (counted[1] - counted[0]) / group
    return counted[0] - slope * group, slope


def print_memory(preset: str) -> None:
    """Print the memory of a step, and the images that fit into each of `CARDS`."""
    config = parse_config(preset_values(preset))
    group, batch = config.model.discriminator.minibatch_std_group, config.train.batch_size
    pieces = [piece for piece in range(group, batch + 1, group) if batch % piece == 0]
    lines = {}
    for precision, recompute in product(("fp32", "bf16"), (False, True)):
        name = precision + ", model.recompute" * recompute
        lines[name] = memory_line(preset, precision, recompute, group)
    rows = [[name, *(f"{(start + slope * n) / 1e9:.1f} GB" for n in pieces)] for name, (start, slope) in lines.items()]
    print_table(["settings", *(f"{piece} images" for piece in pieces)], rows)
    rows = []
    for size in CARDS:
        fitting = [[n for n in pieces if start + slope * n <= size * 1e9] for start, slope in lines.values()]
        cells = (f"{most[-1]} (accumulation {batch // most[-1]})" if most else "does not fit" for most in fitting)
        rows.append([f"{size} GB", *cells])
    print_table(["GPU", *lines], rows)


def print_table(titles: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)
    for cells in rows:
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--seconds", action="store_true", help="also time generation")
    parser.add_argument("--memory", action="store_true", help="memory of a training step instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        for name in options.presets:
            print_memory(name)
        return
    titles = ["preset", "generator, M", "discriminator, M", "GFLOP an image", "GFLOP a training image", "GB an image"]
    print_table(titles + ["ms an image"] * options.seconds, (row(name, options.seconds) for name in options.presets))


if __name__ == "__main__":
    main()
