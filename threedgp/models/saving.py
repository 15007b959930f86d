"""Writes a trained generator: ``model.safetensors`` and ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from threedgp.config import Config
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Generator
from threedgp.runtime.atomic import atomic_path, write_json

WEIGHTS = "model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
"""Needed only to continue training."""
CONFIG = "config.json"


def save_model(
    folder: Path,
    generator: Generator,
    config: Config,
    *,
    class_names: list[str],
    kimg: float,
    discriminator: Discriminator | None = None,
) -> None:
    """Write the model of a run with settings `config`; other arguments as in `write_model`."""
    data, seed = config.dataset, config.train.seed
    about = dict(resolution=data.resolution, class_names=class_names, seed=seed, kimg=kimg, dataset=data.name)
    write_model(folder, generator, **about, discriminator=discriminator)


def write_model(
    folder: Path,
    generator: Generator,
    *,
    resolution: int,
    class_names: list[str],
    seed: int,
    kimg: float,
    dataset: str | None = None,
    discriminator: Discriminator | None = None,
    refined: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the averaged weights and everything that is needed to use them: the resolution of the training images, the
    names of the classes by label, the seed of the initialization, thousands of images shown, the data set (None =
    unknown), the discriminator for further training (None = none), and the settings of each refinement."""
    _write_state(folder / WEIGHTS, generator)
    if discriminator is None:
        (folder / DISCRIMINATOR).unlink(missing_ok=True)  # that of the model that was here before
    else:
        _write_state(folder / DISCRIMINATOR, discriminator)
    write_json(
        folder / CONFIG,
        {
            "camera": generator.camera_config.model_dump(mode="json"),
            "model": generator.model_config.model_dump(mode="json"),
            "num_classes": generator.num_classes,
            "class_names": class_names,
            "class_probabilities": generator.class_probabilities,
            "fov_quantiles": _rounded(generator.fov_quantiles),
            "resolution": resolution,
            "seed": seed,
            "kimg": kimg,
            "dataset": dataset,
            **({"refined": refined} if refined else {}),
        },
    )


def _rounded(quantiles: Tensor | None) -> list[list[float]] | None:
    """Rows with the two decimals that stage `shards` writes."""
    return None if quantiles is None else quantiles.double().cpu().round(decimals=2).tolist()


def _write_state(target: Path, network: nn.Module) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(target) as temporary:
        save_file(state, temporary)
