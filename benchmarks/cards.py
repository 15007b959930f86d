"""Settings with which a preset fits into GPUs of several sizes, from counted bytes; no GPU is needed.

    python benchmarks/cards.py --preset imagenet

Prints two tables (Markdown): the memory of a training step by precision, recomputation and number of images at once,
and for each size of GPU how many images fit. Bytes are those of `threedgp plan`: counted tensors, 10 % for the
allocator and 1 GB for CUDA. Two sizes are counted and all others lie on their line, since activations are proportional
to images.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from train_step import CLASSES

from threedgp.commands.preset import preset_values
from threedgp.commands.requirements import DEFAULT_FEATURE_DIM, FEATURE_DIMS
from threedgp.config import Config, parse_config
from threedgp.training.counting import count_step
from threedgp.training.devices import needed_bytes

SIZES = (12, 16, 24, 40, 80)
"""GB."""


class Setting(NamedTuple):
    """What changes the memory of a step."""

    precision: str
    recompute: bool

    def __str__(self) -> str:
        return self.precision + (", model.recompute" if self.recompute else "")


SETTINGS = [Setting(precision, recompute) for precision in ("fp32", "bf16") for recompute in (False, True)]


def piece_config(preset: str, setting: Setting, piece: int) -> Config:
    """The preset with two pieces of `piece` images; all further ones need as much as the second."""
    values = preset_values(preset)
    values.setdefault("train", {}).update(batch_size=2 * piece, accumulation=2, precision=setting.precision)
    values.setdefault("model", {})["recompute"] = setting.recompute
    return parse_config(values)


def line(preset: str, setting: Setting, group: int) -> tuple[float, float]:
    """Bytes of a step without images, and bytes of an image."""
    counted = []
    for piece in (group, 2 * group):
        config = piece_config(preset, setting, piece)
        features = FEATURE_DIMS.get(config.embed.network, DEFAULT_FEATURE_DIM)
        counted.append(needed_bytes(count_step(config, num_classes=CLASSES, num_features=features)))
    slope = (counted[1] - counted[0]) / group
    return counted[0] - slope * group, slope


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="imagenet")
    options = parser.parse_args()
    config = parse_config(preset_values(options.preset))
    group, batch = config.model.discriminator.minibatch_std_group, config.train.batch_size
    pieces = [piece for piece in range(group, batch + 1, group) if batch % piece == 0]
    lines = {setting: line(options.preset, setting, group) for setting in SETTINGS}
    print("| settings | " + " | ".join(f"{piece} images" for piece in pieces) + " |\n|---" + "|---" * len(pieces) + "|")
    for setting, (start, slope) in lines.items():
        print(f"| {setting} | " + " | ".join(f"{(start + slope * piece) / 1e9:.1f} GB" for piece in pieces) + " |")
    print("\n| GPU | " + " | ".join(map(str, SETTINGS)) + " |\n|---" + "|---" * len(SETTINGS) + "|")
    for size in SIZES:
        cells = []
        for start, slope in lines.values():
            fitting = [piece for piece in pieces if start + slope * piece <= size * 1e9]
            cells.append(f"{max(fitting)} (accumulation {batch // max(fitting)})" if fitting else "does not fit")
        print(f"| {size} GB | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
