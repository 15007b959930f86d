"""Networks of timm with their weights, whatever layout these have, and clear words where the two do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor, nn

from threedgp.fetch.hub import HUB
from threedgp.fetch.weights import find_weights
from threedgp.runtime.errors import UserError

OWN_NAMES = ("none", "efficientnet_lite0")
"""Values of `embed.network` that are no models of timm."""
NAMED = 3
"""Keys that a message names; it counts the rest."""

State = dict[str, Tensor]


def check_name(network: str) -> None:
    """Make sure that timm has the model `network`: ``architecture`` or ``architecture.tag``.

    Raises:
        UserError: it has not; names the nearest that it has.
    """
    architecture, _, tag = network.partition(".")
    if not timm.is_model(architecture):
        known = [*OWN_NAMES, *timm.list_models()]
        near = difflib.get_close_matches(architecture, known, n=NAMED)
        advice = f"did you mean {_listed(near, 'or')}?" if near else "timm.list_models() names all."
        raise UserError(f"embed.network: timm has no model '{architecture}'; {advice}")
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        there = f"it has {_listed(tags, 'and')}" if tags else "it has none"
        raise UserError(f"embed.network: timm has no weights '{tag}' for {architecture}; {there}.")


def weights_file(network: str, weights: str | None, mirror: str | None = None) -> Path:
    """A local file with weights of `network`.

    Args:
        network: as timm names it.
        weights: path, address or hub id; None = those that timm names.
        mirror: folder or address where files are looked for first.

    Raises:
        UserError: there are none, or they cannot be fetched.
    """
    if weights is not None:
        return find_weights(network, weights, key="embed.weights", mirror=mirror)
    named = get_pretrained_cfg(network)
    if named is None or not (named.hf_hub_id or named.url):
        raise UserError(f"embed.weights: timm names no weights for {network}; set it to a file, address or hub id.")
    if not named.hf_hub_id:
        return find_weights(network, named.url, key="embed.weights", mirror=mirror)
    file = named.hf_hub_filename or "model.safetensors"
    try:
        return find_weights(network, f"{named.hf_hub_id}:{file}", key="embed.weights", mirror=mirror)
    except UserError as error:
        raise UserError(
            f"{str(error).rstrip('.')}, or get {file} of {HUB}/{named.hf_hub_id} on another machine and set "
            "embed.weights to its path."
        ) from None


def read_state(file: Path) -> State:
    """The tensors of a .safetensors file or of a PyTorch checkpoint, of which the averaged weights are preferred.

    No code of the file is run.

    Raises:
        UserError: it holds anything else.
    """
    try:
        state = load_state_dict(str(file), weights_only=True)
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("there are other things than tensors in it")
    except Exception as error:
        why = " ".join(str(error).split()).partition(". ")[0][:160]
        raise UserError(
            f"embed.weights: {file} holds no weights that can be read safely ({why}); "
            "give a .safetensors file or a .pth file with nothing but tensors."
        ) from None
    return state


def load_network(network: str, file: Path, input_size: int) -> nn.Module:
    """The model `network` without classifier and with the weights of `file`, in evaluation mode.

    Weights in timm's layout are loaded as they are, others (of CLIP, for instance) as timm converts them.

    Args:
        network: as timm names it.
        file: the weights; a classifier among them may have any number of classes.
        input_size: side of the pictures in pixels, for architectures that are made for one size.

    Raises:
        UserError: the weights do not fit the network, or the network no such pictures.
    """
    state, named = read_state(file), get_pretrained_cfg(network)
    sizes: dict[str, Any] = {}
    if named is not None and named.fixed_input_size and named.input_size[1:] != (input_size, input_size):
        sizes["img_size"] = input_size
    try:
        model = timm.create_model(network, pretrained=False, num_classes=0, **sizes)
    except (TypeError, ValueError, AssertionError):
        raise UserError(
            f"embed.input_size: {network} takes no pictures of {input_size} pixels a side; "
            f"set it to {named.input_size[-1] if named else 224}."
        ) from None
    body = _without_classifier(state, model)
    try:
        model.load_state_dict(body)
    except RuntimeError:
        model.load_state_dict(_converted(network, state, sizes, file, _difference(model.state_dict(), body)))
    return model.eval().requires_grad_(False)


def _without_classifier(state: State, model: nn.Module) -> State:
    classifiers = model.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    names = {f"{classifier}.{kind}" for classifier in classifiers for kind in ("weight", "bias")}
    return {name: value for name, value in state.items() if name not in names}


def _converted(network: str, state: State, sizes: dict[str, Any], file: Path, difference: str) -> State:
    """The weights after timm's conversion from other layouts and sizes; `difference` says why they need one."""
    try:
        # timm drops what does not fit unless the number of classes is its own.
        model = timm.create_model(network, pretrained=True, pretrained_cfg_overlay={"state_dict": state}, **sizes)
        model.reset_classifier(0)
    except Exception:
        raise UserError(f"embed.weights: {file} does not fit {network}: {difference}.") from None
    return model.state_dict()


def _difference(wanted: State, found: State) -> str:
    """What distinguishes the keys and shapes of `found` from those of `wanted`, in words."""
    lacks = [name for name in wanted if name not in found]
    more = [name for name in found if name not in wanted]
    shapes = [
        f"{name} {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    parts = [("it lacks", lacks), ("it has in excess", more), ("it has other shapes in", shapes)]
    return "; ".join(f"{what} {_listed(names, 'and', NAMED)}" for what, names in parts if names)


def _listed(names: Sequence[str], last: str, most: int | None = None) -> str:
    names = list(names) if most is None or len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
