"""Estimators of the Hugging Face hub that the package `transformers` runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from threedgp.depth.estimator import NetworkKind
from threedgp.depth.estimators._network import DepthMap
from threedgp.runtime.errors import UserError

UNUSED = re.compile(r"neck\.fusion_stage\.layers\.0\.residual_layer1\.")
"""The first fusion layer has one input; some published files lack the weights for a second."""
IGNORED = re.compile(
    rf"{UNUSED.pattern}"
    r"|(.*\.)?(pooler|auxiliary_head)\."
    r"|(.*\.)?(mask_token|position_ids|relative_position_index|relative_coords_table|attn_mask|k_idx|k_minus_1)$"
)
"""Weights in a file that the depth network does not have: heads of other tasks (DPT's segmentation, a pooled vector),
the token of masked pre-training, and constants that follow from the configuration, which older releases of
`transformers` saved (position indices of BEiT, Swin and ViT, bin indices of ZoeDepth)."""


class TransformersDepth:
    """Runs a model with its own image processor, in float32.

    DPT and the relative Depth Anything return inverse depth up to scale and shift: 1 / depth = a * output + b, and the
    image does not determine b (github.com/isl-org/MiDaS/issues/42). Dividing by the output would assume b = 0, and its
    error is unbounded where the output is near zero. The negated inverse depth keeps the order of the pixels, is
    bounded, and is a smooth function of depth: for rays from 0.75 to 1.25 it deviates by at most 0.13 of their range.

    Args:
        folder: ``config.json``, ``preprocessor_config.json`` and safetensors.
        device: where the model runs.
        name: value of `depth.estimator`.
        model_type: the type that ``config.json`` must state; default: `name`.
        is_inverse: whether a model with this configuration returns inverse depth.
        max_depth: larger depth counts as sky.
        size_argument: argument of the image processor that takes the sizes of the original images.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        *,
        name: str,
        model_type: str | None = None,
        is_inverse: Callable[[Any], bool] = lambda config: False,
        max_depth: float | None = None,
        size_argument: str = "target_sizes",
    ) -> None:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **safe)
            if config.model_type != (model_type or name):
                raise UserError(
                    f"depth.weights: {folder} holds a model of type '{config.model_type}', but depth.estimator "
                    f"'{name}' needs '{model_type or name}'."
                )
            self._processor = transformers.AutoImageProcessor.from_pretrained(folder, **safe)
            # The default precision is that of the file, which may be 16 bits.
            options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
            model, report = transformers.AutoModelForDepthEstimation.from_pretrained(folder, **safe, **options)
            self._is_inverse = is_inverse(config)
            self.metric = not self._is_inverse  # models that return depth were trained on meters
            # ZoeDepth with an indoor and an outdoor head chooses one of them for the whole batch.
            self.batches = len(getattr(config, "bin_configurations", None) or []) <= 1
        except UserError:
            raise
        except Exception as error:  # wrong values in the configuration raise almost anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"depth.weights: {folder} cannot be loaded as '{name}': {reason}") from None
        # transformers would initialize missing weights at random and drop unknown ones.
        if missing := sorted(key for key in report["missing_keys"] if not UNUSED.match(key)):
            raise UserError(f"depth.weights: {folder} lacks {len(missing)} weights of '{name}', such as {missing[0]}.")
        if unknown := sorted(key for key in report["unexpected_keys"] if not IGNORED.match(key)):
            raise UserError(
                f"depth.weights: {folder} holds {len(unknown)} weights that its config.json has no place for, such as "
                f"{unknown[0]}; both files must be of the same model."
            )
        self._model = model.eval().requires_grad_(False).to(device)
        self._device, self._max_depth, self._size_argument = device, max_depth, size_argument

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        inputs = self._processor(list(images), input_data_format="channels_last", return_tensors="pt")
        outputs = self._model(**inputs.to(self._device))
        sizes = {self._size_argument: [image.shape[:2] for image in images]}
        found = self._processor.post_process_depth_estimation(outputs, **sizes)
        return [self._to_map(one["predicted_depth"].float().cpu().numpy(), one.get("field_of_view")) for one in found]

    def _to_map(self, depth: NDArray[np.float32], fov: torch.Tensor | None) -> DepthMap:
        known = None if self._max_depth is None else depth < self._max_depth
        return DepthMap(-depth if self._is_inverse else depth, known, None if fov is None else fov.item())


def transformers_kind(
    name: str, *, weights: str, license: str, output: str, fov: bool = False, **options: Any
) -> NetworkKind:
    """Declare an estimator; `options` are those of `TransformersDepth`."""
    return NetworkKind(
        load=partial(TransformersDepth, name=name, **options),
        output=output,
        weights=weights,
        license=license,
        package="transformers",
        install="pip install -c constraints.txt -e .[estimators]",
        fov=fov,
    )
