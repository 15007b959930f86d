"""Names of the published generator's parameters, mapped onto ours."""

from __future__ import annotations

import re

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

# Constants that our modules compute, and a counter of the training loop.
_NOT_STORED = re.compile(r".*resample_filter|.*progress_coef")


def convert_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters and buffers of the generator, under our names.

    Raises:
        UserError: a name that 3DGP does not have.
    """
    converted = {}
    for name, tensor in state.items():
        if _NOT_STORED.fullmatch(name):
            continue
        rule = next((rule for rule in _RULES.items() if re.fullmatch(rule[0], name)), None)
        if rule is None:
            raise UserError(f"'{name}' is not a parameter of a published 3DGP generator; is this another model?")
        renamed = re.sub(*rule, name)
        renamed = re.sub(r"\{(\d+)\}", lambda match: str(int(match[1]).bit_length() - 3), renamed)
        converted[renamed] = tensor
    return converted
