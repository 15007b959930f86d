"""Reading the golden arrays, and the comparison that their README prescribes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load(folder: Path, name: str) -> dict[str, Tensor]:
    """Arrays of one golden file."""
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(folder / name).items()}


def assert_matches(actual: Tensor, golden: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to `tolerance` times the golden array's largest magnitude (float32 on a CPU)."""
    assert actual.shape == golden.shape
    error = (actual.detach() - golden).abs().max() / golden.abs().max()
    assert error <= tolerance, f"relative error {error:.2e} exceeds {tolerance:.0e}"


_DISCRIMINATOR_RULES = {
    r"scalar_enc\.const_embed\.weight": r"patch_encoding.lookup.weight",
    r"hyper_mod_mapping\.embed\.(\w+)": r"style_mapping.embed.\1",
    r"hyper_mod_mapping\.fc(\d+)\.(\w+)": r"style_mapping.layers.\1.\2",
    r"head_mapping\.embed\.(\w+)": r"head_mapping.embed.\1",
    r"head_mapping\.fc(\d+)\.(\w+)": r"head_mapping.layers.\1.\2",
    r"b4\.conv\.(\w+)": r"conv.\1",
    r"b4\.fc\.(\w+)": r"hidden.\1",
    r"b4\.out\.(\w+)": r"output.\1",
    r"b4\.feat_out\.(\d)\.(\w+)": r"feature_head.\1.\2",
    r"b(\d+)\.conv1\.affine\.(\w+)": r"blocks.{\1}.affine.\2",
    r"b(\d+)\.(conv[01]|skip)\.(\w+)": r"blocks.{\1}.\2.\3",
}
# Constants that our modules compute, and layers that the published network never uses.
_NOT_STORED = re.compile(r".*resample_filter|.*progress_coef|scalar_enc\.fourier_encoder\..*")


def discriminator_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters and buffers of the discriminator, under our names."""
    largest = max(int(match[1]) for name in state if (match := re.match(r"b(\d+)\.", name)))
    converted = {}
    for name, tensor in state.items():
        if _NOT_STORED.fullmatch(name):
            continue
        if match := re.fullmatch(r"b(\d+)\.fromrgb\.(\w+)", name):
            if int(match[1]) == largest:  # the other blocks have the layer, and never use it
                converted[f"from_rgb.{match[2]}"] = tensor
            continue
        (rule,) = (rule for rule in _DISCRIMINATOR_RULES.items() if re.fullmatch(rule[0], name))
        renamed = re.sub(*rule, name)
        # Blocks are counted from the largest resolution.
        count = lambda match: str(largest.bit_length() - int(match[1]).bit_length())  # noqa: E731
        converted[re.sub(r"\{(\d+)\}", count, renamed)] = tensor
    return converted
