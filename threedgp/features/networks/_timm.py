"""Any classifier or image encoder of timm (CLIP, for instance), with weights in any layout that timm converts."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor, nn

from threedgp.features.network import Features
from threedgp.features.networks._preprocessing import Preprocessing
from threedgp.fetch.hub import HUB
from threedgp.fetch.remote import checksum_of
from threedgp.fetch.weights import find_weights
from threedgp.runtime.errors import UserError

OWN_NAMES = ("none", "efficientnet_lite0")
"""Values of `embed.network` that are not models of timm."""

State = dict[str, Tensor]


class TimmFeatures:
    """Pooled features before the classifier, after the network's own preprocessing; no logits."""

    def __init__(
        self, network: str, *, input_size: int, weights: str | None, device: torch.device, mirror: str | None
    ) -> None:
        check_name(network)
        file = weights_file(network, weights, mirror)
        self.name, self.input_size, self.device = network, input_size, device
        # Convolutions on CPUs are fastest in this memory format.
        self._network = load_network(network, file, input_size).to(device, memory_format=torch.channels_last)
        self._preprocess = Preprocessing.of(self._network, input_size)
        digest = checksum_of(file).removeprefix("sha256:")[:8]
        self.identity = f"{network}-{digest}-{self._preprocess.identity}"
        self.feature_dim = self._measure_dim()

    def _measure_dim(self) -> int:
        """D, from a black image: models state it in different ways, and some wrongly."""
        black = torch.zeros(1, 3, self.input_size, self.input_size, dtype=torch.uint8)
        try:
            pooled = self(black).pooled
        except (AssertionError, RuntimeError) as error:
            why = " ".join(str(error).split())[:160]
            raise UserError(
                f"embed.input_size: {self.name} does not take images of {self.input_size} pixels a side ({why})."
            ) from None
        if pooled.ndim != 2:
            raise UserError(f"embed.network: {self.name} does not return a vector per image; choose another one.")
        return pooled.shape[1]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        x = self._preprocess(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        return Features(self._network(x).float().cpu(), torch.empty(len(images), 0))


def check_name(network: str) -> None:
    """Require that timm has the model `network`: ``architecture`` or ``architecture.tag``."""
    architecture, _, tag = network.partition(".")
    if not timm.is_model(architecture):
        known = [*OWN_NAMES, *timm.list_models()]
        near = difflib.get_close_matches(architecture, known)
        advice = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names all."
        raise UserError(f"embed.network: timm has no model '{architecture}'; {advice}")
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise UserError(
            f"embed.network: timm has no weights '{tag}' for {architecture}; it has {', '.join(tags) or 'none'}."
        )


def weights_file(network: str, weights: str | None, mirror: str | None = None) -> Path:
    """A local file with weights of `network`; downloaded if there is none."""
    if weights is not None:
        return find_weights(weights, key="embed.weights", mirror=mirror)
    named = get_pretrained_cfg(network)
    if named is None or not (named.hf_hub_id or named.url):
        raise UserError(f"embed.weights: timm names no weights for {network}; set it to a file, URL or hub id.")
    if not named.hf_hub_id:
        return find_weights(named.url, key="embed.weights", mirror=mirror)
    file = named.hf_hub_filename or "model.safetensors"
    try:
        return find_weights(f"{named.hf_hub_id}:{file}", key="embed.weights", mirror=mirror)
    except UserError as error:
        raise UserError(
            f"{str(error).rstrip('.')}, or get {file} of {HUB}/{named.hf_hub_id} on another machine and set "
            "embed.weights to its path."
        ) from None


def read_state(file: Path) -> State:
    """The tensors of a .safetensors file or a PyTorch checkpoint, preferably the averaged weights.

    No code of the file is run.

    Raises:
        UserError: the file holds anything else.
    """
    try:
        state = load_state_dict(str(file), weights_only=True)
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it does not hold only tensors")
    except Exception as error:
        why = " ".join(str(error).split()).partition(". ")[0][:160]
        raise UserError(
            f"embed.weights: {file} cannot be read safely as weights ({why}); "
            "give a .safetensors file or a .pth file of tensors."
        ) from None
    return state


def load_network(network: str, file: Path, input_size: int) -> nn.Module:
    """The model `network` without classifier and with the weights of `file`, in evaluation mode.

    timm converts weights in other layouts, such as CLIP's.
    """
    state, named = read_state(file), get_pretrained_cfg(network)
    sizes: dict[str, Any] = {}
    if named is not None and named.fixed_input_size and named.input_size[1:] != (input_size, input_size):
        sizes["img_size"] = input_size
    try:
        model = timm.create_model(network, pretrained=False, num_classes=0, **sizes)
    except (TypeError, ValueError, AssertionError):
        raise UserError(
            f"embed.input_size: {network} does not take images of {input_size} pixels a side; "
            f"set it to {named.input_size[-1] if named else 224}."
        ) from None
    embedding = getattr(model, "patch_embed", None)
    # timm would ignore the pixels beyond the last whole patch. Other classes have patches that overlap, or pad images.
    if isinstance(embedding, PatchEmbed) and input_size % (side := embedding.patch_size[0]):
        raise UserError(
            f"embed.input_size: {network} divides images into patches of {side} pixels; "
            f"set it to a multiple, such as {math.ceil(input_size / side) * side}."
        )
    try:
        model.load_state_dict(_without_classifier(state, model))
    except RuntimeError as error:
        model.load_state_dict(_converted(network, state, sizes, file, " ".join(str(error).split())[:300]))
    return model.eval().requires_grad_(False)


def _without_classifier(state: State, model: nn.Module) -> State:
    classifiers = model.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    names = {f"{classifier}.{kind}" for classifier in classifiers for kind in ("weight", "bias")}
    return {name: value for name, value in state.items() if name not in names}


def _converted(network: str, state: State, sizes: dict[str, Any], file: Path, reason: str) -> State:
    """The weights after timm's conversion from other layouts and sizes; `reason` is why they need one."""
    try:
        # With another number of classes timm would drop what does not fit.
        model = timm.create_model(network, pretrained=True, pretrained_cfg_overlay={"state_dict": state}, **sizes)
        model.reset_classifier(0)
    except Exception:
        raise UserError(f"embed.weights: {file} does not fit {network}: {reason}") from None
    return model.state_dict()


NETWORK = TimmFeatures
