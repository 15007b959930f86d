"""Loads a trained generator from its folder. Executes no code from the files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_generator
from threedgp.models.saving import CONFIG, WEIGHTS
from threedgp.runtime.errors import UserError

MISSING = "{}: no such file; train a model first (dvc repro train) or name its folder."


def read_model_config(folder: Path) -> dict[str, Any]:
    """Content of a model folder's ``config.json``. Raises UserError if it is missing or damaged."""
    path = folder / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(MISSING.format(path)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); restore the file.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not valid JSON; restore the file or train the model again.") from None


def load_untrained(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The generator of a model folder at the initialization of its run. Raises UserError if the folder's configuration
    is missing or damaged."""
    config = read_model_config(folder)
    try:
        _require_probabilities(config["class_probabilities"], config["num_classes"])
        generator = initial_generator(
            CameraConfig(**config["camera"]),
            ModelConfig(**config["model"]),
            config["num_classes"],
            config["class_probabilities"],
            config["seed"],
        )
    # ValidationError is a ValueError; impossible sizes raise the last two.
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / CONFIG}: not a valid model configuration ({reason}).") from None
    return generator.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _require_probabilities(values: Any, num_classes: int) -> None:
    """Raise ValueError unless `values` is a distribution over classes, up to its sum; empty = uniform."""
    if not values:
        return
    if len(values) != num_classes or not all(isinstance(value, int | float) and value >= 0 for value in values):
        raise ValueError(f"class_probabilities: expected {num_classes} non-negative numbers")
    if not 0 < sum(values) < math.inf:
        raise ValueError("class_probabilities: the sum must be positive and finite")


def load_model(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The trained generator (averaged weights), ready for use. Raises UserError if a file is missing or damaged, does
    not match the configuration, or holds values that are not finite."""
    generator = load_untrained(folder, device)
    path = folder / WEIGHTS
    try:
        generator.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(MISSING.format(path)) from None
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not the weights of {folder / CONFIG} ({reason}).") from None
    for name, values in generator.state_dict().items():
        if not values.isfinite().all():
            raise UserError(f"{path}: '{name}' holds values that are not finite; use an earlier model or train again.")
    return generator
