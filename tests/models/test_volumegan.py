"""VolumeGAN: the volume is looked up at the right place, and sizes that no machine has are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from threedgp.config import parse_config
from threedgp.models.feature_rendering import StyledContent
from threedgp.models.layers import GAINS
from threedgp.models.pointwise import ModulatedLinear
from threedgp.models.volumegan import VolumeGenerator, VolumeLayer
from threedgp.runtime.errors import UserError
from training.worlds import CLASSES, kind_config


def test_points_get_the_trilinear_features_of_their_place() -> None:
    config = kind_config("volumegan")
    generator = VolumeGenerator(config.camera, config.model, CLASSES)
    generator.decoder, generator.output = torch.nn.ModuleList(), torch.nn.Identity()
    volume = torch.randn(1, 4, 8, 8, 8)
    points = (torch.rand(1, 50, 3) - 0.5) * 0.98  # the cube has the half-width 0.5
    found = generator.field(StyledContent(volume, torch.zeros(1, 8)))(points)[0]
    line = np.linspace(-0.5, 0.5, 8)
    for channel in range(4):
        lookup = RegularGridInterpolator((line, line, line), volume[0, channel].numpy())  # axes z, y, x
        expected = lookup(points[0].flip(-1).numpy())
        np.testing.assert_allclose(found[:, channel].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found[:, 4:], points[0] / 0.5)


def test_volume_layer_is_a_convolution_with_modulated_weights() -> None:
    layer, x, w = VolumeLayer(3, 5, 7, up=False), torch.randn(2, 3, 4, 4, 4), torch.randn(2, 7)
    with torch.no_grad():
        layer.bias.normal_()
        for sample in range(2):
            weight = layer.weight.unflatten(2, (3, 3, 3)) * layer.affine(w)[sample][:, None, None, None]
            weight = weight / (weight.square().sum(dim=(1, 2, 3, 4), keepdim=True) + 1e-8).sqrt()
            y = torch.nn.functional.conv3d(x[sample : sample + 1], weight, layer.bias, padding=1)
            expected = torch.nn.functional.leaky_relu(y, 0.2) * GAINS["leaky_relu"]
            torch.testing.assert_close(layer(x, w)[sample], expected[0], rtol=1e-4, atol=1e-5)


def test_modulated_linear_is_a_linear_layer_with_modulated_weights() -> None:
    layer, x, w = ModulatedLinear(3, 5, 7), torch.randn(2, 6, 3), torch.randn(2, 7)
    with torch.no_grad():
        for sample in range(2):
            weight = layer.weight * layer.affine(w)[sample]
            weight = weight / (weight.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
            expected = torch.nn.functional.leaky_relu(x[sample] @ weight.t(), 0.2) * GAINS["leaky_relu"]
            torch.testing.assert_close(layer(x, w)[sample], expected, rtol=1e-4, atol=1e-5)


def test_volume_that_is_too_large_is_refused() -> None:
    values = kind_config("volumegan").model_dump(mode="json")
    values["model"]["generator"] |= {"plane_resolution": 512, "channel_base": 4096}
    with pytest.raises(UserError, match=r"^params.yaml: model.generator.plane_resolution: a volume of 512x512x512"):
        parse_config(values)
