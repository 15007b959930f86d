"""The depth estimator that the settings name."""

from __future__ import annotations

from threedgp.config import DepthConfig
from threedgp.depth.absent import NoDepth
from threedgp.depth.base import DepthEstimator
from threedgp.depth.sidecar import SidecarDepth
from threedgp.depth.simulated import SimulatedDepth


def build_estimator(config: DepthConfig) -> DepthEstimator:
    """The estimator that `depth.estimator` names."""
    if config.estimator == "none":
        return NoDepth()
    if config.estimator == "sidecar":
        return SidecarDepth()
    return SimulatedDepth(config.strength, config.seed)
