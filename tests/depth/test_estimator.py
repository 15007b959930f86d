"""The estimators that look at no pixels: `sidecar` and `simulated`."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.depth.estimator import Rejected, build_estimator


def picture(index: int = 0) -> RawPicture:
    rendering = render_picture(draw_scene(0, index), 48)
    return RawPicture(f"{index:08d}", 0, rendering.rgb, rendering.depth)


def test_sidecar_hands_out_the_map_of_the_source() -> None:
    given = picture()
    (found,) = build_estimator(DepthConfig(estimator="sidecar")).estimate([given])
    assert found.depth is given.depth and found.fov is None


@pytest.mark.parametrize("name", ["sidecar", "simulated"])
def test_no_depth_is_a_reject(name: str) -> None:
    estimator = build_estimator(DepthConfig(estimator=name))
    assert estimator.name == name and not estimator.looks_at_pixels
    (result,) = estimator.estimate([RawPicture("a", 0, np.zeros((4, 4, 3), np.uint8))])
    assert isinstance(result, Rejected) and "no depth" in result.reason
