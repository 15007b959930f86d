"""MoGe through a stand-in with the documented interface of its package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, build_estimator
from threedgp.runtime.errors import UserError


class MoGeModel(torch.nn.Module):
    """Depth = 1 + red; what is purely blue is sky: masked, and infinitely far."""

    masked = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> MoGeModel:
        assert Path(pretrained_model_name_or_path).is_file()
        if Path(pretrained_model_name_or_path).read_bytes() != b"weights":
            raise KeyError("model_config")
        return cls()

    def infer(self, image: Tensor, *, use_fp16: bool = True, **more: Any) -> dict[str, Tensor]:
        assert not self.training and not torch.is_grad_enabled() and not more
        assert not use_fp16, "half precision was not asked for"
        assert (
            image.dtype == torch.float32
            and image.ndim == 3
            and len(image) == 3
            and 0 <= image.min() <= image.max() <= 1
        )
        sky = image[2] == 1
        depth = torch.where(sky, torch.inf, 1 + image[0])
        intrinsics = torch.tensor([[1.5, 0.0, 0.5], [0.0, 1.5, 0.5], [0.0, 0.0, 1.0]])  # as fractions of the width
        found = {"points": torch.zeros(*depth.shape, 3), "intrinsics": intrinsics, "depth": depth}
        return found | ({"mask": ~sky} if self.masked else {})


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package is there, and so is a file of weights."""
    module = ModuleType("moge.model.v2")
    module.MoGeModel = MoGeModel
    monkeypatch.setitem(sys.modules, "moge", ModuleType("moge"))
    monkeypatch.setitem(sys.modules, "moge.model", ModuleType("moge.model"))
    monkeypatch.setitem(sys.modules, "moge.model.v2", module)
    (tmp_path / "model.pt").write_bytes(b"weights")
    return tmp_path / "model.pt"


def build(weights: Path | None) -> DepthEstimator:
    return build_estimator(DepthConfig(estimator="moge", weights=weights and str(weights)), "cpu")


def scene() -> RawPicture:
    """Red rises to the right; the upper quarter is sky."""
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[4:, :, 0] = np.arange(16) * 15
    rgb[:4, :, 2] = 255
    return RawPicture("a", 0, rgb)


@pytest.mark.parametrize("masked", [True, False])
def test_depth_and_sky(masked: bool, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MoGeModel, "masked", masked)
    estimator = build(weights)
    small = RawPicture("b", 0, scene().rgb[4:8, :4])  # of another size, in the same batch
    (depth, fov), (other, _) = estimator.estimate([scene(), small])
    np.testing.assert_allclose(depth[4:], np.tile(1 + np.arange(16) * 15 / 255, (12, 1)), rtol=1e-6)
    assert (depth[:4] == depth[4:].max()).all()
    np.testing.assert_array_equal(other, depth[4:8, :4])
    assert estimator.name == "moge" and depth.dtype == np.float32
    assert np.tan(np.deg2rad(fov) / 2) == pytest.approx(0.5 / 1.5)


def test_depth_is_metric_with_a_head_for_the_scale(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not build(weights).metric
    monkeypatch.setattr(MoGeModel, "scale_head", torch.nn.Identity(), raising=False)
    assert build(weights).metric


def test_the_package_is_not_installed() -> None:
    with pytest.raises(UserError, match=r"'moge' needs its package .*; run `pip install git\+https://github.com/mic"):
        build(None)


def test_weights_of_another_model(weights: Path) -> None:
    weights.write_bytes(b"others")
    with pytest.raises(UserError, match=r"depth.weights: MoGe cannot load .*model.pt: 'model_config'"):
        build(weights)
