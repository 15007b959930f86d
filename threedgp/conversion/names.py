"""Names of the published 3DGP parameters, mapped onto ours."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from threedgp.runtime.errors import UserError

_GENERATOR_RULES: tuple[tuple[str, str], ...] = (
    (r"mapping\.w_avg", "mapping.w_average"),
    (r"mapping\.embed\.(\w+)", r"mapping.embed.linear.\1"),
    (r"mapping\.fc(\d+)\.(\w+)", r"mapping.layers.\1.\2"),
    (r"synthesis\.tri_plane_decoder\.b(\d+)\.const", r"backbone.blocks.{\1}.const"),
    (r"synthesis\.tri_plane_decoder\.b(\d+)\.(conv[01])\.(.+)", r"backbone.blocks.{\1}.\2.\3"),
    (r"synthesis\.tri_plane_decoder\.b(\d+)\.torgb\.(.+)", r"backbone.blocks.{\1}.output.\2"),
    (r"synthesis\.tri_plane_mlp\.model\.0\.(\w+)", r"decoder.hidden.\1"),
    (r"synthesis\.tri_plane_mlp\.model\.1\.(\w+)", r"decoder.output.\1"),
    (r"synthesis\.depth_adaptor\.near_plane_offset_raw", "depth_adaptor.near_offset_raw"),
    (r"synthesis\.depth_adaptor\.(layers\.\d+|head)\.(\w+)", r"depth_adaptor.\1.\2"),
    (r"synthesis\.camera_adaptor\.(\w+)_adaptor\.project_params\.(\w+)", r"camera_generator.\1.project_parameters.\2"),
    (r"synthesis\.camera_adaptor\.(\w+)_adaptor\.project_z\.(\w+)", r"camera_generator.\1.project_z.\2"),
    (r"synthesis\.camera_adaptor\.(\w+)_adaptor\.project_c\.(\w+)", r"camera_generator.\1.project_label.linear.\2"),
    (r"synthesis\.camera_adaptor\.(\w+)_adaptor\.main\.0\.(\w+)", r"camera_generator.\1.hidden.\2"),
    (r"synthesis\.camera_adaptor\.(\w+)_adaptor\.main\.1\.(\w+)", r"camera_generator.\1.output.\2"),
)

_DISCRIMINATOR_RULES: tuple[tuple[str, str], ...] = (
    (r"scalar_enc\.const_embed\.weight", "patch_encoding.lookup.weight"),
    (r"hyper_mod_mapping\.embed\.(\w+)", r"style_mapping.embed.\1"),
    (r"hyper_mod_mapping\.fc(\d+)\.(\w+)", r"style_mapping.layers.\1.\2"),
    (r"head_mapping\.embed\.(\w+)", r"head_mapping.embed.\1"),
    (r"head_mapping\.fc(\d+)\.(\w+)", r"head_mapping.layers.\1.\2"),
    (r"b4\.conv\.(\w+)", r"conv.\1"),
    (r"b4\.fc\.(\w+)", r"hidden.\1"),
    (r"b4\.out\.(\w+)", r"output.\1"),
    (r"b4\.feat_out\.(\d)\.(\w+)", r"feature_head.\1.\2"),
    (r"b(\d+)\.conv1\.affine\.(\w+)", r"blocks.[\1].affine.\2"),
    (r"b(\d+)\.(conv[01]|skip)\.(\w+)", r"blocks.[\1].\2.\3"),
)

# Constants that our modules compute, a counter of the training loop, and layers that the published network never uses.
_NOT_STORED = re.compile(r".*resample_filter|.*progress_coef|scalar_enc\.fourier_encoder\..*")


def _rename(name: str, rules: tuple[tuple[str, str], ...], largest: int) -> str | None:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, name):
            renamed = re.sub(pattern, replacement, name)
            # {32} counts blocks upwards from resolution 4, [32] downwards from the largest.
            renamed = re.sub(r"\{(\d+)\}", lambda m: str(int(m[1]).bit_length() - 3), renamed)
            return re.sub(r"\[(\d+)\]", lambda m: str(largest.bit_length() - int(m[1]).bit_length()), renamed)
    return None


def convert_names(state: dict[str, Tensor], *, network: str) -> dict[str, Tensor]:
    """Published parameters and buffers of one network, under our names.

    Args:
        state: published name to tensor.
        network: `generator` or `discriminator`.

    Raises:
        UserError: a name that 3DGP does not have, or no block of a resolution.
    """
    rules = _GENERATOR_RULES if network == "generator" else _DISCRIMINATOR_RULES
    largest = max((int(m[1]) for name in state if (m := re.search(r"\bb(\d{1,6})\.", name))), default=0)
    if not largest:
        raise UserError(f"its {network} has no parameters of blocks (b4, b8 and so on); is this another model?")
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _NOT_STORED.fullmatch(name):
            continue
        if network == "discriminator" and (match := re.fullmatch(r"b(\d+)\.fromrgb\.(\w+)", name)):
            if int(match[1]) == largest:
                converted[f"from_rgb.{match[2]}"] = torch.as_tensor(tensor)
            continue
        renamed = _rename(name, rules, largest)
        if renamed is None:
            raise UserError(f"'{name}' is no parameter of a published 3DGP {network}; is this another model?")
        converted[renamed] = torch.as_tensor(tensor)
    return converted
