"""Names of the published networks' parameters, mapped onto ours."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

from threedgp.runtime.errors import UserError

_CAMERA = r"synthesis\.camera_adaptor\.(\w+)_adaptor"
_BLOCK = r"synthesis\.tri_plane_decoder\.b(\d+)"
_RULES = {
    r"mapping\.w_avg": r"mapping.w_average",
    r"mapping\.embed\.(\w+)": r"mapping.embed.linear.\1",
    r"mapping\.fc(\d+)\.(\w+)": r"mapping.layers.\1.\2",
    rf"{_BLOCK}\.const": r"backbone.blocks.{\1}.const",
    rf"{_BLOCK}\.(conv[01])\.(.+)": r"backbone.blocks.{\1}.\2.\3",
    rf"{_BLOCK}\.torgb\.(.+)": r"backbone.blocks.{\1}.output.\2",
    r"synthesis\.tri_plane_mlp\.model\.0\.(\w+)": r"decoder.hidden.\1",
    r"synthesis\.tri_plane_mlp\.model\.1\.(\w+)": r"decoder.output.\1",
    r"synthesis\.depth_adaptor\.near_plane_offset_raw": r"depth_adaptor.near_offset_raw",
    r"synthesis\.depth_adaptor\.(layers\.\d+|head)\.(\w+)": r"depth_adaptor.\1.\2",
    rf"{_CAMERA}\.project_params\.(\w+)": r"camera_generator.\1.project_parameters.\2",
    rf"{_CAMERA}\.project_z\.(\w+)": r"camera_generator.\1.project_z.\2",
    rf"{_CAMERA}\.project_c\.(\w+)": r"camera_generator.\1.project_label.linear.\2",
    rf"{_CAMERA}\.main\.0\.(\w+)": r"camera_generator.\1.hidden.\2",
    rf"{_CAMERA}\.main\.1\.(\w+)": r"camera_generator.\1.output.\2",
}
"""Published name to ours; `{32}` stands for the index of the block of resolution 32."""

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
    r"b\d+\.fromrgb\.(\w+)": r"from_rgb.\1",
    r"b(\d+)\.conv1\.affine\.(\w+)": r"blocks.{\1}.affine.\2",
    r"b(\d+)\.(conv[01]|skip)\.(\w+)": r"blocks.{\1}.\2.\3",
}

# Constants that our modules compute, and a counter of the training loop.
_NOT_STORED = re.compile(r".*resample_filter|.*progress_coef|scalar_enc\.fourier_encoder\..*")


def convert_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters and buffers of the generator, under our names.

    Raises:
        UserError: a name that 3DGP does not have.
    """
    return _convert(state, _RULES, "generator", lambda resolution: resolution.bit_length() - 3)


def convert_discriminator_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters and buffers of the discriminator, under our names; blocks are counted from the largest
    resolution.

    Raises:
        UserError: a name that 3DGP does not have.
    """
    largest = max((int(match[1]) for name in state if (match := re.match(r"b(\d+)\.", name))), default=4)
    # Blocks other than the first have a layer `fromrgb`, too, and never use it.
    unused = re.compile(rf"b(?!{largest}\.)\d+\.fromrgb\.\w+")
    used = {name: tensor for name, tensor in state.items() if not unused.fullmatch(name)}
    return _convert(used, _DISCRIMINATOR_RULES, "discriminator", lambda n: largest.bit_length() - n.bit_length())


def _convert(
    state: dict[str, Tensor], rules: dict[str, str], network: str, block: Callable[[int], int]
) -> dict[str, Tensor]:
    """Tensors by the names that `rules` give them; `block` is the index of the block of a resolution."""
    converted = {}
    for name, tensor in state.items():
        if _NOT_STORED.fullmatch(name):
            continue
        rule = next((rule for rule in rules.items() if re.fullmatch(rule[0], name)), None)
        if rule is None:
            raise UserError(f"'{name}' is not a parameter of a published 3DGP {network}; is this another model?")
        renamed = re.sub(*rule, name)
        converted[re.sub(r"\{(\d+)\}", lambda match: str(block(int(match[1]))), renamed)] = tensor
    return converted
