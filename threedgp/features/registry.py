"""The feature extractor that the settings name."""

from __future__ import annotations

import torch

from threedgp.features.efficientnet_lite0 import EfficientNetLite0
from threedgp.features.extractor import FeatureExtractor
from threedgp.features.inception import Inception

SAME_NETWORK = {"tf_efficientnet_lite0": "efficientnet_lite0", "tf_efficientnet_lite0.in1k": "efficientnet_lite0"}


def build_extractor(
    network: str,
    *,
    input_size: int,
    weights: str | None = None,
    device: torch.device | str = "cpu",
    mirror: str | None = None,
) -> FeatureExtractor:
    """The extractor called `network` in ``params.yaml``.

    Args:
        network: `efficientnet_lite0`, `inception`, or a model of timm.
        input_size: side to which pictures are resized; Inception always takes 299.
        weights: path, address or hub id of the weights; None = the usual ones. EfficientNet-Lite0 has its own.
        device: where the network runs.
        mirror: folder or address where weights are looked for first.

    Raises:
        UserError: the weights are missing or do not fit, or there is no such network.
    """
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # features are kept and compared: all 23 bits of them
    if network == "efficientnet_lite0":
        return EfficientNetLite0(input_size, device)
    if network == "inception":
        return Inception(weights, device, mirror)
    from threedgp.features.timm_features import TimmFeatures
    from threedgp.features.timm_weights import check_name, weights_file

    check_name(network)
    return TimmFeatures(network, weights_file(network, weights, mirror), input_size, device)


def same_network(first: str, second: str) -> bool:
    """Whether two names in ``params.yaml`` mean the same network, so that a score by one favours what learns the other.

    Weights of one's own are not looked at.
    """
    return SAME_NETWORK.get(first, first) == SAME_NETWORK.get(second, second)
