"""The model folder that a command opens, and the scenes that it works on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from threedgp.commands.options import Device, class_list, number_list
from threedgp.models.generator import Generator
from threedgp.models.loading import load_model, read_model_config
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.models.saving import WEIGHTS
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError


class Model(NamedTuple):
    """A loaded model folder."""

    folder: Path
    generator: Generator
    config: dict[str, Any]
    """Content of config.json."""
    resolution: int
    """Pixels along each side of the training images."""
    class_names: list[str]
    """By label; empty for a model without classes."""
    sha256: str
    """Checksum of the weights file."""


class Scene(NamedTuple):
    """One scene of a model."""

    seed: int
    label: int | None
    """Its class; None for a model without classes."""
    inputs: Scenes
    """The random inputs, a batch of one."""

    def name(self, truncation: float = 1.0) -> str:
        """Stem of file names, such as ``seed0003_class005_truncation0.7``; a truncation of 1 is not named."""
        parts = [f"seed{self.seed:04d}"]
        if self.label is not None:
            parts.append(f"class{self.label:03d}")
        if truncation != 1:
            parts.append(f"truncation{truncation:g}")
        return "_".join(parts)


def open_model(folder: Path, device: Device) -> Model:
    """Load a model. Raises UserError if the folder holds no model or a damaged one, or the device is not available."""
    keep_freed_memory()
    chosen = choose_device(device, setting="--device")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train a model first (dvc repro train) or name its folder.")
    generator = load_model(folder, chosen)
    config = read_model_config(folder)
    names = config.get("class_names") or []
    if len(names) != generator.num_classes:
        names = [str(number) for number in range(generator.num_classes)]
    with (folder / WEIGHTS).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Model(folder, generator, config, config["resolution"], names, digest)


def choose_scenes(model: Model, seeds: str, classes: str | None) -> list[tuple[int, int | None]]:
    """Pairs of seed and class: all seeds in the first class, then in the second, and so on. Lists are as in
    `number_list` and `class_list`; None = a random class for each seed, with the frequencies of the training data.
    Raises UserError if a list cannot be read, or a class is unknown."""
    numbers = number_list(seeds, "--seeds")
    labels = [None] if classes is None else class_list(classes, model.class_names)
    return [(seed, label) for label in labels for seed in numbers]


def make_scene(model: Model, seed: int, label: int | None) -> Scene:
    """The scene of a seed, in a class or in the random class of the seed.

    It depends on seed and class only; seed 3 is scene 3 of stage `render` with `render.seed: 0`.
    """
    inputs = sample_scenes(model.generator, 1, 0, start=seed, labels=None if label is None else [label])
    return Scene(seed, None if inputs.labels is None else int(inputs.labels), inputs)
