"""LeReS against the published network, and what it is given to see."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golden_arrays import assert_matches
from threedgp.depth.estimators import leres
from threedgp.depth.estimators.leres import MEAN, STD, Leres, LeresDepth, load_leres

CPU = torch.device("cpu")


def weights_by_rule(names: list[str], shapes: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The weights that the README of the golden arrays describes."""
    for name, shape in zip(names, shapes, strict=True):
        sizes = tuple(int(size) for size in shape.split(","))
        x = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(sizes, dtype=np.float32)
        if name.endswith("running_var"):
            x = 1 + 0.1 * np.abs(x)
        elif name.endswith(("running_mean", "bias")):
            x = 0.1 * x
        elif len(sizes) == 1:
            x = 1 + 0.1 * x
        else:
            x = x * np.float32(np.sqrt(2 / np.prod(sizes[1:])))
        yield name, torch.from_numpy(x)


@pytest.mark.parametrize("encoder", ["resnet50", "resnext101"])
@torch.inference_mode()
def test_golden(encoder: str, golden: Path, tmp_path: Path) -> None:
    """Written to a checkpoint, loaded, and run: output and the encoder's four levels are the published ones."""
    with np.load(golden / f"leres_{encoder}.npz") as arrays:
        state = dict(weights_by_rule(arrays["names"].tolist(), arrays["shapes"].tolist()))
        given, output, level_mean, level_std = (
            torch.from_numpy(arrays[name]) for name in ("input", "output", "level_mean", "level_std")
        )
    torch.save({"depth_model": state}, tmp_path / "weights.pth")
    network = load_leres(tmp_path / "weights.pth").eval()
    assert_matches(network(given), output, tolerance=1e-3)  # as the README says, for the values are large
    levels = network.encoder_modules["encoder"](given)
    torch.testing.assert_close(torch.stack([level.mean() for level in levels]).double(), level_mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack([level.std() for level in levels]).double(), level_std, rtol=1e-4, atol=0)


class Recorder(nn.Module):
    """In place of the network: keeps what it is given, and returns the red channel."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images[:, :1]


def test_input_is_resized_and_normalised() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    recorder = Recorder()
    (found,) = LeresDepth(recorder, CPU)([picture])
    # PyTorch resizes in float32, OpenCV in fixed point, rounded to whole levels: they are at most a level apart.
    rgb = F.interpolate(torch.from_numpy(picture).permute(2, 0, 1)[None].float(), (448, 448), mode="bilinear")
    expected = (rgb / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert (recorder.seen - expected).abs().max() < 1 / 255 / min(STD)
    assert found.depth.dtype == np.float32 and found.known is None
    np.testing.assert_array_equal(found.depth, recorder.seen[0, 0].numpy())  # neither turned nor negated


def test_large_images_are_sampled_not_smoothed() -> None:
    """The published inference aliases, and so do we."""
    stripes = np.zeros((1344, 1344, 3), np.uint8)
    stripes[:, 1::3] = 255  # of three columns the middle one, where a plain bilinear resize by 3 looks
    recorder = Recorder()
    LeresDepth(recorder, CPU)([stripes])
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(recorder.seen, white.view(1, 3, 1, 1).expand_as(recorder.seen))


def test_depth_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leres, "INPUT_SIZE", 64)  # 50 times quicker
    torch.manual_seed(0)
    depth = LeresDepth(Leres("resnet50"), CPU)
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in (20, 64, 33)]
    together, alone = depth(pictures), [depth([picture])[0] for picture in pictures]
    assert np.ptp(alone[0].depth) > 0
    for one, other in zip(together, alone, strict=True):
        # Rounding of float32 sums whose order depends on the batch.
        np.testing.assert_allclose(one.depth, other.depth, rtol=0, atol=1e-4 * np.abs(other.depth).max())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu() -> None:
    torch.manual_seed(0)
    network = Leres("resnet50")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (expected,) = LeresDepth(network, CPU)([picture])
    (found,) = LeresDepth(network, torch.device("cuda"))([picture])
    # PyTorch lets convolutions of a GPU round their inputs to 10 bits (TF32).
    np.testing.assert_allclose(found.depth, expected.depth, rtol=0, atol=1e-2 * np.abs(expected.depth).max())
