"""Preprocessing against timm's own pipeline, which uses Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from threedgp.features.networks._preprocessing import Preprocessing, center_crop

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 40, 40), dtype=np.uint8))


def by_timm(model: torch.nn.Module, size: int, pictures: torch.Tensor) -> torch.Tensor:
    data = {**resolve_model_data_config(model), "input_size": (3, size, size)}
    transform = create_transform(**data, is_training=False)
    return torch.stack([transform(Image.fromarray(picture.permute(1, 2, 0).numpy())) for picture in pictures])


@pytest.mark.parametrize("size", [24, 32, 224])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])  # bilinear, bicubic; two means
def test_preprocessing_is_that_of_timm(name, size):
    model = timm.create_model(name)
    ours = Preprocessing.of(model, size)
    theirs = by_timm(model, size, PICTURES)
    # Pillow's weights are integers, so that a value near a half may be rounded to the neighboring byte.
    byte = 1 / 255 / torch.tensor(ours.std)[:, None, None]
    bytes_apart = (ours(PICTURES) - theirs) / byte
    assert bytes_apart.abs().max() <= 1.001
    assert bytes_apart.abs().mean() < 0.02


def test_image_of_the_right_size_keeps_every_pixel():
    ours = Preprocessing(40, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(ours(PICTURES), PICTURES / 127.5 - 1, rtol=0, atol=1e-6)


def test_identity_names_every_setting():
    one = Preprocessing(40, 0.875, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert one.identity == "bicubic40-crop0.875-mean0.5,0.4,0.3-std0.2,0.2,0.2"


def test_center_crop_is_the_middle():
    wide = torch.arange(6).expand(1, 1, 4, 6)
    assert center_crop(wide)[0, 0, 0].tolist() == [1, 2, 3, 4]
    tall = wide.transpose(2, 3)
    assert center_crop(tall)[0, 0, :, 0].tolist() == [1, 2, 3, 4]
    assert center_crop(wide, 2).flatten().tolist() == [2, 3, 2, 3]
