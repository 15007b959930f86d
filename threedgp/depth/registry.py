"""The depth estimator that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from threedgp.config import DepthConfig
from threedgp.depth.estimator import DepthEstimator
from threedgp.depth.estimators.none import NoDepth
from threedgp.depth.estimators.sidecar import SidecarDepth
from threedgp.depth.estimators.simulated import SimulatedDepth
from threedgp.fetch.table import DEPTH_MODELS
from threedgp.fetch.weights import find_model, find_weights, kind_of

if TYPE_CHECKING:
    from threedgp.depth.network import DepthNetwork

KEY = "depth.weights"


def build_estimator(
    config: DepthConfig, device: Literal["auto", "cpu", "cuda"] = "auto", mirror: str | None = None
) -> DepthEstimator:
    """The estimator that `depth.estimator` names; its weights are fetched if they are not there.

    Args:
        device: `machine.device`, where a network runs.
        mirror: `machine.mirror`, where weights are looked for first.

    Raises:
        UserError: the weights are missing or others than expected, or a package is.
    """
    if config.estimator == "none":
        return NoDepth()
    if config.estimator == "sidecar":
        return SidecarDepth()
    if config.estimator == "simulated":
        return SimulatedDepth(config.strength, config.seed)
    from threedgp.depth.network import NetworkDepth  # PyTorch takes seconds, and the others do without

    return NetworkDepth(config.estimator, _network(config, device, mirror), config.batch_size)


def _network(config: DepthConfig, device_name: Literal["auto", "cpu", "cuda"], mirror: str | None) -> DepthNetwork:
    from threedgp.runtime.device import choose_device

    device, given = choose_device(device_name), config.weights
    if config.estimator == "leres":
        file = find_weights("leres", given, key=KEY, mirror=mirror)  # before slow imports: it is what people lack
        from threedgp.depth.estimators.leres import LeresDepth
        from threedgp.depth.leres_checkpoint import load_leres

        return LeresDepth(load_leres(file), device)
    usual = DEPTH_MODELS[config.estimator]
    if config.estimator == "moge":
        from threedgp.depth.estimators import moge

        moge.package()  # before gigabytes are fetched
        given = given or usual.repo
        if kind_of(given) == "hub" and ":" not in given:
            given = f"{given}:{usual.file}"
        return moge.MogeDepth(find_weights("moge", given, key=KEY, mirror=mirror), device)
    if config.estimator == "depth_anything_3":
        from threedgp.depth.estimators import depth_anything_3

        depth_anything_3.package()
        folder = find_model(given or usual.repo, key=KEY, mirror=mirror)
        return depth_anything_3.DepthAnything3Depth(folder, device)
    from threedgp.depth.hub_models import HubDepth

    folder = find_model(given or usual.repo, key=KEY, mirror=mirror)
    return HubDepth(folder, config.estimator, device)
