"""The trained generator on disk: ``model.safetensors`` and ``config.json``. Loading runs no code of the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from threedgp.config import CameraConfig, Config, ModelConfig
from threedgp.models.generator import Generator
from threedgp.runtime.atomic import atomic_path, write_json
from threedgp.runtime.errors import UserError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def seeded_generator(
    camera: CameraConfig, model: ModelConfig, num_classes: int, class_probabilities: list[float], seed: int
) -> Generator:
    """A generator at its initialisation, a function of `seed`; PyTorch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(camera, model, num_classes, class_probabilities)


def save_model(folder: Path, generator: Generator, config: Config, *, class_names: list[str], kimg: float) -> None:
    """Write the model of a run; `config` is that of the run, other arguments as in `write_model`."""
    resolution, seed = config.dataset.resolution, config.train.seed
    about = dict(resolution=resolution, class_names=class_names, seed=seed, kimg=kimg, dataset=config.dataset.name)
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
    """Write weights and all that is needed to use them.

    Args:
        folder: made if absent.
        generator: averaged weights.
        resolution: pixels along each side of the pictures it was trained on.
        class_names: of the data, by label.
        seed: of the initialisation.
        kimg: thousands of images that training has shown.
        dataset: name of the data; None = not known.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as path:
        save_file(state, path)
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


def read_model_config(folder: Path) -> dict[str, Any]:
    """Content of a model folder's ``config.json``.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train a model first (dvc repro train) or name its folder.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); restore the file.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: this is no JSON; restore the file or train the model again.") from None


def load_untrained(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The generator as it was at the initialisation of the run whose model lies in `folder`.

    Raises:
        UserError: the folder's configuration is missing or damaged.
    """
    config = read_model_config(folder)
    try:
        _require_probabilities(config["class_probabilities"], config["num_classes"])
        generator = seeded_generator(
            CameraConfig(**config["camera"]),
            ModelConfig(**config["model"]),
            config["num_classes"],
            config["class_probabilities"],
            config["seed"],
        )
    # ValidationError is a ValueError; the last two come of sizes that no network can have.
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / CONFIG}: this is no configuration of a model ({reason}).") from None
    return generator.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _require_probabilities(values: Any, num_classes: int) -> None:
    """Numbers, one for each class, of which scenes can be drawn; none at all = equally often.

    Raises:
        ValueError: they are something else.
    """
    if not values:
        return
    if len(values) != num_classes or not all(isinstance(value, int | float) and value >= 0 for value in values):
        raise ValueError(f"class_probabilities: expected {num_classes} numbers, none negative")
    if not 0 < sum(values) < math.inf:
        raise ValueError("class_probabilities: they are all 0, or infinite")


def load_model(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The trained generator (averaged weights), ready for use.

    Raises:
        UserError: a file is missing, damaged, does not fit the configuration, or holds what is no number.
    """
    generator = load_untrained(folder, device)
    path = folder / WEIGHTS
    try:
        generator.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train a model first (dvc repro train) or name its folder.") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: these are no weights for {folder / CONFIG} ({reason}).") from None
    for name, values in generator.state_dict().items():
        if not values.isfinite().all():
            raise UserError(
                f"{path}: '{name}' holds values that are no numbers, so every picture would be black; take an earlier "
                "model or train again."
            )
    return generator
