"""Modulation of activations equals modulation of weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.config import GeneratorConfig
from threedgp.models.backbone import Backbone, OutputLayer, SynthesisLayer


@pytest.mark.parametrize("up", [False, True])
def test_layer_equals_modulated_weights(up: bool) -> None:
    """One sample at a time, with the weights of StyleGAN2's equations 1 and 3, in float64."""
    torch.manual_seed(0)
    layer = SynthesisLayer(3, 5, 7, 8 if up else 4, up=up, noise=True).double()
    layer.noise_strength.data.fill_(0.3)
    layer.bias.data.normal_()
    x, w = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 7).double()
    out = layer(x, w)
    for i in range(2):
        style = F.linear(w[i], layer.affine.weight / 7**0.5, layer.affine.bias)
        weight = layer.weight * style[None, :, None, None]
        weight = weight / torch.sqrt(weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if up:
            line = torch.tensor([1.0, 3.0, 3.0, 1.0]).double()
            kernel = (torch.outer(line, line) / 16).expand(5, 1, 4, 4)
            y = F.conv_transpose2d(x[i : i + 1], weight.transpose(0, 1), stride=2)
            y = F.conv2d(y, kernel, padding=1, groups=5)
        else:
            y = F.conv2d(x[i : i + 1], weight, padding=1)
        y = y + layer.noise_const * 0.3 + layer.bias[:, None, None]
        expected = F.leaky_relu(y, 0.2) * 2**0.5
        assert torch.allclose(out[i : i + 1], expected, atol=1e-12)


def test_output_layer_is_not_demodulated() -> None:
    torch.manual_seed(0)
    layer = OutputLayer(3, 2, 7).double()
    x, w = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 7).double()
    style = F.linear(w[0], layer.affine.weight / 7**0.5, layer.affine.bias) / 3**0.5
    expected = F.conv2d(x, layer.weight * style[None, :, None, None])
    assert torch.allclose(layer(x, w), expected, atol=1e-12)


def test_noise_inputs_are_taken_in_the_stated_order() -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(w_dim=4, plane_resolution=16, plane_channels=2, channel_base=64, channel_max=8)
    backbone = Backbone(config, 3 * config.plane_channels)
    for block in backbone.blocks:
        for layer in (block.conv1,) if block.first else (block.conv0, block.conv1):
            layer.noise_strength.data.fill_(0.1)
    w = torch.randn(2, 4)
    constants = [layer.noise_const for block in backbone.blocks for layer in
                 ((block.conv1,) if block.first else (block.conv0, block.conv1))]  # fmt: skip
    assert [tuple(c.shape) for c in constants] == backbone.noise_shapes()
    given = [c.expand(2, 1, *c.shape) for c in constants]
    assert torch.equal(backbone(w, given), backbone(w))
    given[2] = given[2] + 1
    assert not torch.equal(backbone(w, given), backbone(w))


def _bytes_kept_for_backward(recompute: bool, dtype: torch.dtype | None, *, autocast: bool) -> tuple[int, list[Tensor]]:
    """Bytes of the distinct tensors that autograd stores besides parameters and noise, and the gradients of the
    parameters and of w."""
    torch.manual_seed(0)
    config = GeneratorConfig(w_dim=4, plane_resolution=32, plane_channels=4, channel_base=256, channel_max=16)
    backbone = Backbone(config, 3 * config.plane_channels, recompute=recompute)
    for block in backbone.blocks:
        block.conv1.noise_strength.data.fill_(0.3)
    w = torch.randn(2, 4, requires_grad=True)
    noise = [torch.randn(2, 1, *shape) for shape in backbone.noise_shapes()]
    inputs = {x.untyped_storage().data_ptr() for x in (*backbone.parameters(), *noise)}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in inputs:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            planes = backbone(w, noise, dtype)
    state = torch.get_rng_state()
    planes.square().mean().backward()
    assert torch.equal(torch.get_rng_state(), state)
    return sum(x.untyped_storage().nbytes() for x in kept.values()), [w.grad, *(p.grad for p in backbone.parameters())]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_recomputing_gives_the_same_gradients(dtype: torch.dtype | None, autocast: bool) -> None:
    """Also with noise and under autocast, which has to be on again in the backward pass: bit by bit."""
    stored, gradients = _bytes_kept_for_backward(False, dtype, autocast=autocast)
    recomputed, others = _bytes_kept_for_backward(True, dtype, autocast=autocast)
    assert len(gradients) == len(others)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    # Between blocks: x and image of four blocks; inside, each of seven layers stores its input twice, with and without
    # style, and its convolution before the demodulation.
    assert 0 < recomputed < stored / 3


def test_recomputing_stores_only_what_is_between_blocks() -> None:
    kept, _ = _bytes_kept_for_backward(True, None, autocast=False)
    channels, batch = {4: 16, 8: 16, 16: 16}, 2
    between = sum(batch * size**2 * (width + 3 * 4) * 4 for size, width in channels.items())
    constant, w = batch * 4**2 * 16 * 4, batch * 4 * 4
    assert kept == between + constant + w


def test_without_gradients_nothing_is_recomputed() -> None:
    config = GeneratorConfig(w_dim=4, plane_resolution=8, plane_channels=2, channel_base=64, channel_max=8)
    torch.manual_seed(0)
    backbone = Backbone(config, 6, recompute=True)
    w = torch.randn(2, 4)
    with torch.inference_mode():
        expected = backbone(w)
    assert torch.equal(backbone(w), expected)


def test_noise_is_drawn_at_once_and_independent() -> None:
    """One draw, cut into the inputs that the layers take; of equal sizes, no two are equal."""
    asked: list[tuple[str, tuple[int, ...]]] = []

    class Random:
        def normal(self, name: str, *shape: int) -> Tensor:
            asked.append((name, shape))
            return torch.randn(2, *shape)

    config = GeneratorConfig(w_dim=4, plane_resolution=16, plane_channels=2, channel_base=64, channel_max=8)
    backbone = Backbone(config, 6)
    noise = backbone.draw_noise(Random())
    assert [tuple(x.shape) for x in noise] == [(2, 1, *shape) for shape in backbone.noise_shapes()]
    assert asked == [("noise", (4**2 + 2 * 8**2 + 2 * 16**2,))]
    assert not torch.equal(noise[1], noise[2]) and not torch.equal(noise[1][0], noise[1][1])
    backbone(torch.randn(2, 4), noise)
