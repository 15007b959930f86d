"""Start of a run from the networks of another one: the same data, other data, or another number of classes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Generator
from threedgp.models.loading import load_model, read_model_config
from threedgp.models.mapping import LabelEmbedding
from threedgp.models.sampler import draw_scenes
from threedgp.models.saving import CONFIG, DISCRIMINATOR
from threedgp.runtime.errors import UserError

KEY = "train.init_from"
AVERAGE_SAMPLES = 4096
"""Latent vectors whose mean w replaces the running average of other classes."""
OPTIONAL_PARTS = (
    "depth_adaptor",
    "depth_adaptor.coefficients",
    "depth_adaptor.layers",
    "depth_adaptor.head",
    "camera_generator",
    "feature_head",
    "background_output",
    "background_decoder",
)
"""Modules that the source may lack."""
NEW = -1
"""Mark of an input that the source does not have."""


class Mismatch(Exception):
    """The source has another number of blocks, or a parameter of another shape."""


def start_from(
    folder: Path, generator: Generator, discriminator: Discriminator, class_names: Sequence[str]
) -> list[str]:
    """Replace the initial weights of both networks by those of a model folder, where they fit.

    Embeddings of classes follow the names of the classes; those of classes that the source does not have stay at their
    initialization. If the classes differ, the running average of w is computed anew. Where only one of the models has
    classes, layers behind the embedding keep their other inputs, and the class has no effect at first. A discriminator
    of other sizes stays at its initialization, and so do parts that the source does not have.

    Args:
        folder: holds `model.safetensors`, `config.json` and, for the discriminator, `discriminator.safetensors`.
        class_names: those of the data, by label.

    Returns:
        Parts that start from random weights, in words.

    Raises:
        UserError: the folder holds no model, or its generator has other sizes or multipliers of the learning rate.
    """
    try:
        source = load_model(folder)
    except UserError as error:
        raise UserError(f"{KEY}: {error}") from None
    _require_same_units(folder, source, generator)
    known = read_model_config(folder).get("class_names") or []
    names = class_names[: generator.num_classes]
    classes = _classes(known if len(known) == source.num_classes else [""] * source.num_classes, names)
    notes = []
    try:
        notes += _transfer(source.state_dict(), source.num_classes, generator, classes)
    except Mismatch as problem:
        raise UserError(
            f"{KEY}: {folder}: {problem}; copy sections model and camera of its {CONFIG} into params.yaml."
        ) from None
    if (new := classes.count(NEW)) > 0:
        notes.append(f"{new} of {len(classes)} classes")
    if classes != list(range(source.num_classes)):
        _reset_average(generator)
        notes.append("the average of w")
    try:
        notes += _transfer(_discriminator_state(folder), source.num_classes, discriminator, classes)
    except Mismatch as problem:
        notes.append(f"the discriminator ({problem})")
    return notes


def _require_same_units(folder: Path, source: Generator, generator: Generator) -> None:
    """Raise UserError if a multiplier of the learning rate differs, by whose inverse weights are stored."""
    values = {
        "model.generator.mapping_lr_multiplier": [
            one.model_config.generator.mapping_lr_multiplier for one in (source, generator)
        ]
    }
    if source.camera_generator is not None and generator.camera_generator is not None:
        values["camera.lr_multiplier"] = [one.camera_config.lr_multiplier for one in (source, generator)]
    for key, (theirs, ours) in values.items():
        if theirs != ours:
            raise UserError(f"{KEY}: {folder}: its weights are stored for {key} {theirs:g}; set it to that.")


def _classes(known: Sequence[str], names: Sequence[str]) -> list[int]:
    """For each class of the data its label in the source, or NEW. A converted snapshot knows no names: if the number of
    classes is the same, so are the labels."""
    if list(known) == [str(label) for label in range(len(names))]:
        return list(range(len(names)))
    labels = {name: label for label, name in enumerate(known)}
    return [labels.get(name, NEW) for name in names]


def _discriminator_state(folder: Path) -> dict[str, Tensor]:
    file = folder / DISCRIMINATOR
    if not file.is_file():
        raise Mismatch("the folder has none")
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{KEY}: {file}: cannot be read ({error}); restore the file or remove it.") from None
    for name, values in state.items():
        if not values.isfinite().all():
            raise UserError(f"{KEY}: {file}: '{name}' holds values that are not finite; remove the file.")
    return state


def _transfer(source: dict[str, Tensor], num_known: int, network: nn.Module, classes: list[int]) -> list[str]:
    """Load what `network` has in common with the state `source` of a model with `num_known` classes; returns the parts
    that the source does not have. Raises Mismatch if the number of blocks or the shape of a parameter differs; nothing
    is loaded then."""
    state, anew = network.state_dict(), set()
    if more := sorted(_blocks(source) - _blocks(state)):
        raise Mismatch(f"it has '{more[0]}', and the settings make none")
    for name, values in state.items():
        part = _optional_part(name, network, source)
        if part:
            anew.add(part)
            continue
        if name not in source:
            raise Mismatch(f"it has no '{name}'")
        columns = _inputs(name, values, network, num_known, classes)
        if columns is None or (columns.tolist() == list(range(source[name].shape[1]))):
            if source[name].shape != values.shape:
                raise Mismatch(f"its '{name}' is {_sizes(source[name])}, and the settings make {_sizes(values)}")
            state[name] = source[name]
        else:
            state[name] = _rearranged(name, source[name], values, columns)
    network.load_state_dict(state)
    return sorted(anew)


def _blocks(state: dict[str, Tensor]) -> set[str]:
    """Names of the blocks, one for each resolution."""
    return {match[1] for name in state if (match := re.match(r"(.*\bblocks\.\d+)\.", name))}


def _optional_part(name: str, network: nn.Module, source: dict[str, Tensor]) -> str | None:
    """The part to which a parameter belongs that the source does not have, so that it stays at its initialization; None
    if the source has it."""
    for part in OPTIONAL_PARTS:
        inside = f"{part}." in name
        if inside and not any(f"{part}." in key for key in source):
            return part
        if inside and part == "feature_head" and source[name].shape != network.state_dict()[name].shape:
            return part  # of another classifier
    embedding = name.rpartition(".linear.")[0]
    if embedding and name not in source and isinstance(network.get_submodule(embedding), LabelEmbedding):
        return "class embeddings"
    return None


def _inputs(name: str, values: Tensor, network: nn.Module, num_known: int, classes: list[int]) -> Tensor | None:
    """For each input of the layer with the weight `name`, the corresponding input of the source, or NEW; None if the
    inputs do not depend on the classes."""
    own, _, weight = name.rpartition(".")
    if weight != "weight" or values.ndim != 2:
        return None
    width = values.shape[1]
    parent = network.get_submodule(own.rpartition(".")[0])
    if isinstance(parent, LabelEmbedding):
        return torch.tensor(classes)
    if own == "head_mapping.embed" and network.embed_label is None:
        rest = width - len(classes)  # a one-hot class, then the position of the patch
        return torch.tensor([*classes, *range(num_known, num_known + rest)])
    if bool(num_known) == bool(classes):
        return None
    if own == "mapping.layers.0":
        before, block = network.z_dim, network.model_config.generator.w_dim
    elif own in ("camera_generator.origin.hidden", "camera_generator.look_at.hidden"):
        block = network.camera_config.embedding
        before = width - block if classes else width
    else:
        return None
    if classes:
        return torch.tensor([*range(before), *[NEW] * block, *range(before, width - block)])
    return torch.tensor([*range(before), *range(before + block, width + block)])


def _rearranged(name: str, source: Tensor, initial: Tensor, columns: Tensor) -> Tensor:
    """The weight of a layer with other inputs. Gains depend on the number of inputs, so that weights are scaled."""
    if source.ndim != 2 or len(source) != len(initial) or int(columns.max()) >= source.shape[1]:
        raise Mismatch(f"its '{name}' is {_sizes(source)}, and the settings make {_sizes(initial)}")
    known = columns != NEW
    result = initial.clone() if ".linear." in name or name.startswith("head_mapping.") else torch.zeros_like(initial)
    result[:, known] = source[:, columns[known]] * math.sqrt(initial.shape[1] / source.shape[1])
    return result


def _sizes(values: Tensor) -> str:
    return " x ".join(map(str, values.shape))


@torch.no_grad()
def _reset_average(generator: Generator) -> None:
    """Replace the running average of w by the mean over the classes of the data."""
    scenes = draw_scenes(generator, 0, "average of w", torch.arange(AVERAGE_SAMPLES))
    generator.mapping.w_average.copy_(generator.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras).mean(dim=0))
