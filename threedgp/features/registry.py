"""The feature extractor that the settings name."""

from __future__ import annotations

from torch import device

from threedgp.errors import UserError
from threedgp.features.efficientnet_lite0 import EfficientNetLite0
from threedgp.features.extractor import FeatureExtractor
from threedgp.features.inception import Inception


def build_extractor(
    network: str, *, input_size: int, weights: str | None = None, device: device | str = "cpu"
) -> FeatureExtractor:
    """The extractor called `network` in ``params.yaml``.

    Args:
        network: `efficientnet_lite0` or `inception`.
        input_size: side to which pictures are resized; Inception always takes 299.
        weights: local file with the weights of Inception.
        device: where the network runs.

    Raises:
        UserError: the weights are missing or not the published ones, or there is no such network.
    """
    if network == "efficientnet_lite0":
        return EfficientNetLite0(input_size, device)
    if network == "inception":
        return Inception(weights, device)
    raise UserError(f"feature network '{network}' is not known; choose efficientnet_lite0 or inception.")
