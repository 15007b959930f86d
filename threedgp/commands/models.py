"""A model folder opened for a command, and the scenes that the command is about."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from threedgp.commands.options import LEAST_SIZE, MOST_SIZE, Device, class_list, number_list
from threedgp.models.generator import Generator
from threedgp.models.sampler import Scenes, draw_scenes
from threedgp.models.saving import CONFIG, WEIGHTS, load_model, read_model_config
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError


class Model(NamedTuple):
    """What a folder holds."""

    folder: Path
    generator: Generator
    about: dict[str, Any]
    """Content of its config.json."""
    resolution: int
    """Pixels along each side of the pictures it was trained on."""
    class_names: list[str]
    """By label; none where the model knows no classes."""
    sha256: str
    """Of the file of weights."""


class Subject(NamedTuple):
    """One scene."""

    seed: int
    label: int | None
    """Its class; None where the model knows none."""
    scenes: Scenes
    """Of one."""

    @property
    def name(self) -> str:
        """For files: ``seed0003_class005``."""
        return f"seed{self.seed:04d}" + ("" if self.label is None else f"_class{self.label:03d}")


def open_model(folder: Path, device: Device) -> Model:
    """Load a model for use.

    Raises:
        UserError: the folder holds no model, or a damaged one; or the device is not there.
    """
    keep_freed_memory()
    chosen = choose_device(device, setting="--device")
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; train a model first (dvc repro train) or name its folder.")
    generator = load_model(folder, chosen)
    about = read_model_config(folder)
    resolution, names = about.get("resolution"), about.get("class_names")
    if type(resolution) is not int or not LEAST_SIZE <= resolution <= MOST_SIZE:
        raise UserError(
            f"{folder / CONFIG}: key 'resolution' is {resolution!r}, which is no number of pixels from {LEAST_SIZE} to "
            f"{MOST_SIZE}."
        )
    if not isinstance(names, list) or len(names) != generator.num_classes:
        names = range(generator.num_classes)
    with (folder / WEIGHTS).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Model(folder, generator, about, resolution, [str(name) for name in names], digest)


def choose(model: Model, seeds: str, classes: str | None) -> list[tuple[int, int | None]]:
    """Seeds in each of some classes: first all seeds of the first class.

    Args:
        seeds: as in `number_list`.
        classes: as in `class_list`; None = each scene in the class that is drawn with it, as often as in training.

    Raises:
        UserError: a list cannot be read, or a class is unknown.
    """
    numbers = number_list(seeds, "--seeds")
    labels = [None] if classes is None else class_list(classes, model.class_names)
    return [(seed, label) for label in labels for seed in numbers]


def make_subject(model: Model, seed: int, label: int | None) -> Subject:
    """The scene of a seed, in a class or in the one that is drawn with it.

    It depends on seed and class alone; seed 3 is number 3 of the scenes of stage `render` with `render.seed` 0.
    """
    device = model.generator.mapping.w_average.device
    index = torch.tensor([seed], device=device)
    scenes = draw_scenes(model.generator, 0, "scenes", index, None if label is None else index.new_tensor([label]))
    return Subject(seed, None if scenes.labels is None else int(scenes.labels), scenes)
