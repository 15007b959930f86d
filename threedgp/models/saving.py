"""Writes a trained generator: ``model.safetensors`` and ``config.json``."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from threedgp.config import Config
from threedgp.models.generator import Generator
from threedgp.runtime.atomic import atomic_path, write_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_model(folder: Path, generator: Generator, config: Config, *, class_names: list[str], kimg: float) -> None:
    """Write the model of a run with settings `config`; other arguments as in `write_model`."""
    data, seed = config.dataset, config.train.seed
    about = dict(resolution=data.resolution, class_names=class_names, seed=seed, kimg=kimg, dataset=data.name)
    write_model(folder, generator, **about)


def write_model(
    folder: Path,
    generator: Generator,
    *,
    resolution: int,
    class_names: list[str],
    seed: int,
    kimg: float,
    dataset: str | None = None,
) -> None:
    """Write the averaged weights and everything that is needed to use them: the resolution of the training images, the
    names of the classes by label, the seed of the initialization, thousands of images shown, and the data set (None =
    unknown)."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    write_json(
        folder / CONFIG,
        {
            "camera": generator.camera_config.model_dump(mode="json"),
            "model": generator.model_config.model_dump(mode="json"),
            "num_classes": generator.num_classes,
            "class_names": class_names,
            "class_probabilities": generator.class_probabilities,
            "resolution": resolution,
            "seed": seed,
            "kimg": kimg,
            "dataset": dataset,
        },
    )
