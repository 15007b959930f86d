"""Parameters and cost of every kind of model, for the table in docs/kinds.md.

    python benchmarks/kinds.py imagenet epigraf eg3d stylegan2 volumegan stylenerf

Sizes, floating-point operations and memory are counted on PyTorch's meta device, without a GPU: convolutions and matrix
products of one image at inference, and of a training step (without the gradient penalty) for each real image; memory is
that of tensors in the step with the penalty. With --seconds, generation is also timed on one thread of the CPU, for
presets of toy sizes.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from threedgp.commands.preset import preset_values
from threedgp.config import Config, parse_config
from threedgp.models.initialization import initial_networks
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.render.backends import assume
from threedgp.training.counting import META, count_step, meta_trainer

CLASSES, FEATURES = {"imagenet": 1000, "toy": 10}, 2048
TURNS, IMAGES = 5, 8


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--seconds", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    titles = ["preset", "generator, M", "discriminator, M", "GFLOP an image", "GFLOP a training image", "GB an image"]
    titles += ["ms an image"] * options.seconds
    for cells in (titles, ["---"] * len(titles)):
        print(f"| {' | '.join(cells)} |", flush=True)
    for name in options.presets:
        print(f"| {' | '.join(row(name, options.seconds))} |", flush=True)


if __name__ == "__main__":
    main()
