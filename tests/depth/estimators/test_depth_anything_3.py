"""Depth Anything 3 through a stand-in with the documented interface of its package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, build_estimator
from threedgp.runtime.errors import UserError

SIDE = 28
"""Size of the maps that the stand-in returns for images of any size."""


class DepthAnything3:
    """Depth = 1 + red; what is blue is sky, at a depth that means nothing."""

    sky = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> DepthAnything3:
        if (Path(pretrained_model_name_or_path) / "config.json").read_text() != "{}":
            raise TypeError("unexpected keyword 'hidden_size'")
        return cls()

    def to(self, device: object) -> DepthAnything3:
        return self

    def inference(self, image: list[NDArray[np.uint8]]) -> SimpleNamespace:
        assert len(image) == 1, "pictures of one call are views of one scene"
        small = cv2.resize(image[0], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).astype(np.float32)
        sky = small[..., 2] > 128
        found = SimpleNamespace(depth=np.where(sky, 0.1, 1 + small[..., 0])[None], is_metric=0, sky=None)
        if self.sky:
            found.sky = sky[None]
        return found


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package is there, and so is a folder of weights."""
    module = ModuleType("depth_anything_3.api")
    module.DepthAnything3 = DepthAnything3
    monkeypatch.setitem(sys.modules, "depth_anything_3", ModuleType("depth_anything_3"))
    monkeypatch.setitem(sys.modules, "depth_anything_3.api", module)
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def build(weights: Path | None) -> DepthEstimator:
    return build_estimator(DepthConfig(estimator="depth_anything_3", weights=weights and str(weights)), "cpu")


def scene(side: int) -> RawPicture:
    rgb = np.zeros((side, side, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 200, side).astype(np.uint8)
    rgb[: side // 4, :, 2] = 255
    return RawPicture("a", 0, rgb)


def test_sky_is_farthest_and_maps_have_the_size_of_the_image(weights: Path) -> None:
    for (depth, _), side in zip(build(weights).estimate([scene(28), scene(112)]), (28, 112), strict=True):
        assert depth.shape == (side, side) and depth.dtype == np.float32
        # Half a pixel of the map is lost to the resize at each of its borders.
        np.testing.assert_allclose(depth[side // 2], 1 + np.linspace(0, 200, side), atol=200 / SIDE)
        assert (depth[: side // 5] == depth.max()).all()


def test_models_without_a_mask(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DepthAnything3, "sky", False)
    ((depth, _),) = build(weights).estimate([scene(28)])
    assert (depth[:7] == np.float32(0.1)).all()


def test_the_package_is_not_installed() -> None:
    with pytest.raises(
        UserError, match=r"'depth_anything_3' needs its package .*; run `pip install git\+https://github"
    ):
        build(None)


def test_weights_of_another_model(weights: Path) -> None:
    (weights / "config.json").write_text('{"hidden_size": 16}')
    with pytest.raises(UserError, match=r"depth.weights: Depth Anything 3 cannot load .*: unexpected keyword"):
        build(weights)
