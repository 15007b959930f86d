"""Loads a trained generator from its folder. Executes no code from the files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file

from threedgp.config import CameraConfig, ModelConfig
from threedgp.config.errors import explain
from threedgp.config.fields import MAX_CLASSES, Integer, NonNegative, Pixels, Section, Seed
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_generator
from threedgp.models.saving import CONFIG, WEIGHTS
from threedgp.runtime.errors import UserError

MISSING = "{}: no such file; train a model first (dvc repro train) or name its folder."
MAX_CONFIG_BYTES = 2**24
"""Maximum size of ``config.json``; 100,000 names of classes take a few MB."""


class _Refined(Section):
    """Settings of a refinement, see `threedgp refine`; keys that nothing reads are kept."""

    model_config = ConfigDict(extra="allow")

    diffusion: str
    prompt: str
    steps: Integer


class _ModelFile(Section):
    """Content of ``config.json``; keys that nothing reads are kept."""

    model_config = ConfigDict(extra="allow")

    camera: CameraConfig
    model: ModelConfig
    num_classes: Annotated[Integer, Field(ge=0, le=MAX_CLASSES)]
    class_names: list[str] | None = None
    class_probabilities: list[NonNegative]
    fov_quantiles: list[Annotated[list[NonNegative], Field(min_length=2)]] | None = None
    resolution: Annotated[Pixels, Field(ge=8)]
    seed: Seed
    kimg: NonNegative | None = None
    dataset: str | None = None
    refined: list[_Refined] | None = None

    @model_validator(mode="after")
    def _values_fit(self) -> _ModelFile:
        values = self.class_probabilities
        if values and (len(values) != self.num_classes or not sum(values)):
            raise ValueError(f"class_probabilities: expected {self.num_classes} numbers with a positive sum")
        rows = self.fov_quantiles or []
        if self.camera.prior == "estimated" and (
            len(rows) != 1 + self.num_classes or len({len(row) for row in rows}) != 1
        ):
            raise ValueError(f"fov_quantiles: expected {1 + self.num_classes} rows of equal length")
        if problem := self.model.size_problem(self.resolution):
            raise ValueError(problem)
        return self


def read_model_config(folder: Path) -> dict[str, Any]:
    """Content of a model folder's ``config.json``, with the defaults of what it lacks. Raises UserError if it is
    missing, damaged, or has wrong values."""
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CONFIG_BYTES))
    except FileNotFoundError:
        raise UserError(MISSING.format(path)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); restore the file.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not valid JSON; restore the file or train the model again.") from None
    try:
        return _ModelFile.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        raise UserError(explain(error.errors()[0], _ModelFile, str(path))) from None


def load_untrained(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The generator of a model folder at the initialization of its run. Raises UserError if the folder's configuration
    is missing or damaged, or its weights are missing or too few for it."""
    config, weights = _ModelFile(**read_model_config(folder)), folder / WEIGHTS
    sizes = config.camera, config.model, config.num_classes, config.class_probabilities
    initialize = partial(initial_generator, *sizes, config.seed, config.fov_quantiles)
    with torch.device("meta"):  # counts parameters before memory is allocated for them
        state = initialize().state_dict()
    try:
        size = weights.stat().st_size
    except OSError:
        raise UserError(MISSING.format(weights)) from None
    if sum(tensor.nbytes for tensor in state.values()) > size:
        raise UserError(f"{weights}: not the weights of {folder / CONFIG} (only {size} bytes).")
    return initialize().to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def load_model(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """The trained generator (averaged weights), ready for use. Raises UserError if a file is missing or damaged, does
    not match the configuration, or holds values that are not finite."""
    generator = load_untrained(folder, device)
    path = folder / WEIGHTS
    try:
        generator.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not the weights of {folder / CONFIG} ({reason}).") from None
    for name, values in generator.state_dict().items():
        if not values.isfinite().all():
            raise UserError(f"{path}: '{name}' holds values that are not finite; use an earlier model or train again.")
    return generator
