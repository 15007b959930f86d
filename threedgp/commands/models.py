"""The scenes of a model that a command works on."""

from __future__ import annotations

from threedgp.api import Model, Scene, make_scene, open_model
from threedgp.commands.options import class_list, number_list

__all__ = ["Model", "Scene", "choose_scenes", "make_scene", "open_model"]


def choose_scenes(model: Model, seeds: str, classes: str | None) -> list[tuple[int, int | None]]:
    """Pairs of seed and class: all seeds in the first class, then in the second, and so on. Lists are as in
    `number_list` and `class_list`; None = a random class for each seed, with the frequencies of the training data.
    Raises UserError if a list cannot be read, or a class is unknown."""
    numbers = number_list(seeds, "--seeds")
    labels = [None] if classes is None else class_list(classes, model.class_names)
    return [(seed, label) for label in labels for seed in numbers]
