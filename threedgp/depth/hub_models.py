"""Estimators of the hub that run through `transformers`: ZoeDepth, Depth Anything V2, DPT, Depth Pro."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.network import DepthMap
from threedgp.runtime.errors import UserError

INSTALL = "pip install -c constraints.txt -e .[estimators]"


MODEL_TYPES = {
    "zoedepth": "zoedepth",
    "depth_anything_v2": "depth_anything",
    "dpt": "dpt",
    "depth_pro": "depth_pro",
}
"""What the ``config.json`` of a model says, by `depth.estimator`."""

UNUSED = re.compile(r"neck\.fusion_stage\.layers\.0\.residual_layer1\.")
"""The first fusion layer has one input alone; the weights for a second are missing in some published files."""
SPARE = re.compile(
    rf"{UNUSED.pattern}"
    r"|(.*\.)?(pooler|auxiliary_head)\."
    r"|(.*\.)?(mask_token|position_ids|relative_position_index|relative_coords_table|attn_mask|k_idx|k_minus_1)$"
)
"""What a file may hold beyond what the network takes, for it has no part in depth: heads of other tasks (DPT's for
segmentation, a pooled vector) and the token of masked pre-training, which are built only if the config asks; and
constants that follow from the config, which older releases of transformers saved and newer ones compute (indices of
positions in BEiT, Swin and ViT, of bins in ZoeDepth). What transformers itself ignores (BEiT's indices, Depth Pro's
field of view) it does not report. Any other weight belongs to a network that is not the one of the config."""
DEPTH_PRO_FARTHEST = 250.0
"""Metres, beyond which depth by Depth Pro counts as sky. Its inverse depth nears zero, so that rounding comes to move
depth by kilometres, and a single pixel at 10 km would make each of the 65536 levels 15 cm thick. Apple's own pictures
of its depth end here, too."""


class HubDepth:
    """Runs a model with its own image processor, in float32.

    DPT and the relative Depth Anything give inverse depth up to scale and shift: there are a and b with 1 / depth =
    a * output + b, and nothing in the picture tells b (github.com/isl-org/MiDaS/issues/42). Dividing by the output
    assumes b = 0, which is wrong by any amount and without bound where the output nears zero: a far wall may end up
    beyond all measure, and the min-max scaling then presses the rest into a few levels. Negated, inverse depth keeps
    its order, has bounds, and bends depth smoothly: for rays from 0.75 to 1.25 by at most 0.13 of their range.
    Depth Pro's inverse depth has no shift; transformers inverts it.
    """

    def __init__(self, folder: Path, name: str, device: torch.device) -> None:
        """Load the model in `folder`: ``config.json``, ``preprocessor_config.json`` and safetensors.

        Raises:
            UserError: transformers is not installed, or the folder holds no such model, not all of its weights, or
                weights of another network.
        """
        try:
            import transformers
        except ImportError:
            raise UserError(f"depth.estimator: '{name}' needs the package transformers; run `{INSTALL}`.") from None
        transformers.utils.logging.disable_progress_bar()  # ours is enough
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **safe)
            _check_type(config.model_type, name, folder)
            self._processor = transformers.AutoImageProcessor.from_pretrained(folder, **safe)
            # The type is named, for the default is that of the file: half precision, with some.
            loaded = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
            model, report = transformers.AutoModelForDepthEstimation.from_pretrained(folder, **safe, **loaded)
            self._inverse = gives_inverse_depth(config)
            # ZoeDepth with heads for indoors and outdoors lets a whole batch vote for one of them.
            self.batches = len(getattr(config, "bin_configurations", None) or []) <= 1
        except UserError:
            raise
        except Exception as error:  # any value of a config is used as it is: what that raises is not documented
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"depth.weights: {folder} cannot be loaded as '{name}': {reason}") from None
        lacking = sorted(key for key in report["missing_keys"] if not UNUSED.match(key))
        if lacking:  # transformers would go on with random numbers
            raise UserError(f"depth.weights: {folder} lacks {len(lacking)} weights of '{name}', such as {lacking[0]}.")
        spare = sorted(key for key in report["unexpected_keys"] if not SPARE.match(key))
        if spare:  # transformers would leave them out, and run what is left
            raise UserError(
                f"depth.weights: {folder} holds {len(spare)} weights that its config.json has no place for, such as "
                f"{spare[0]}; both files must be of the same model."
            )
        self._model = model.eval().requires_grad_(False).to(device)
        self._name, self._device = name, device

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        inputs = self._processor(list(pictures), input_data_format="channels_last", return_tensors="pt")
        outputs = self._model(**inputs.to(self._device))
        sizes = [picture.shape[:2] for picture in pictures]
        # ZoeDepth's padding is cut off at the pictures' sizes.
        key = "source_sizes" if self._name == "zoedepth" else "target_sizes"
        found = self._processor.post_process_depth_estimation(outputs, **{key: sizes})
        return [self._map(one["predicted_depth"].float().cpu().numpy()) for one in found]

    def _map(self, depth: NDArray[np.float32]) -> DepthMap:
        if self._name == "depth_pro":
            return DepthMap(depth, depth < DEPTH_PRO_FARTHEST)
        return DepthMap(-depth if self._inverse else depth)


def gives_inverse_depth(config: Any) -> bool:
    """Whether a model's output is larger where it is nearer.

    Of DPT, those on DINOv2 were trained on metric depth, all others on MiDaS's inverse depth.
    """
    if config.model_type == "depth_anything":
        return config.depth_estimation_type == "relative"
    if config.model_type == "dpt":
        backbone = getattr(config, "backbone_config", None)
        return not str(getattr(backbone, "model_type", "")).startswith("dinov2")
    return False


def _check_type(found: str, name: str, folder: Path) -> None:
    wanted = MODEL_TYPES[name]
    if found != wanted:
        raise UserError(
            f"depth.weights: {folder} holds a model of type '{found}', but depth.estimator '{name}' wants '{wanted}'."
        )
