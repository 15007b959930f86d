"""Early termination: it leaves out hidden samples, only those, and none where all samples are needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from threedgp.render import Decoder, RayRandomness, RaySettings, midpoint_randomness, render_rays
from threedgp.render.decoder import EMPTY_RAW_DENSITY
from threedgp.render.renderer import sample_rays

RAYS, COARSE = 200, 64
LONG = RaySettings(near=0.0, far=100.0, half_width=60.0, infinite_last_interval=False)
"""Thin fog is opaque over this distance, so that bias and noise of raw density matter."""


def _fog(raw: float, ripple: float = 0.3) -> tuple[Tensor, Decoder, Tensor, Tensor]:
    """Rays through density of about softplus(raw)."""
    draw = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, 16, 16, 8, generator=draw)
    weights = [torch.randn(*shape, generator=draw) / 4 for shape in ((16, 8), (16,), (4, 16))]
    weights[2][3] *= ripple
    decoder = Decoder(*weights, torch.tensor([0.0, 0.0, 0.0, raw]))
    directions = torch.nn.functional.normalize(torch.randn(1, RAYS, 3, generator=draw), dim=-1)
    return planes, decoder, directions * -50, directions


def _numbers(fine: int = 0, noise: float = 0.0) -> RayRandomness:
    plain = midpoint_randomness(1, RAYS, COARSE, fine, torch.zeros(()))
    return plain._replace(coarse_noise=torch.full((1, RAYS, COARSE), noise))


def _left_out(scene: tuple, numbers: RayRandomness, settings: RaySettings) -> float:
    """Fraction of the samples of the coarse pass that are left out."""
    _, samples = sample_rays(*scene, numbers, settings, stop_when_opaque=True, backend="native")
    return (samples[0][..., 3] < EMPTY_RAW_DENSITY + 50).float().mean().item()


@pytest.mark.parametrize(
    ("raw", "bias", "noise"), [(0.0, 0.0, 0.0), (1.5, -1.5, 0.0), (1.5, 0.0, -1.5), (4.0, -2.0, -2.0), (-2.0, 1.0, 1.0)]
)
def test_hidden_samples_are_left_out(raw: float, bias: float, noise: float) -> None:
    scene, numbers, settings = _fog(raw), _numbers(noise=noise), LONG._replace(density_bias=bias)
    with torch.no_grad():
        whole = render_rays(*scene, numbers, settings, backend="native")
        stopped = render_rays(*scene, numbers, settings, backend="native", stop_when_opaque=True)
    # 0.01 % of the light, and rounding of its 64 factors
    assert (whole.transmittance - stopped.transmittance).abs().max() < 1.02e-4
    # Each ray is opaque at a depth of about 9.21 / softplus(0) = 13 of 100, two looks at it lie up to 12.5 apart.
    assert 0.6 < _left_out(scene, numbers, settings) < 0.9


def test_nothing_is_left_out_of_thin_fog() -> None:
    assert _left_out(_fog(-3.0), _numbers(), LONG) == 0
    assert _left_out(_fog(3.0), _numbers(), LONG._replace(density_bias=-6.0)) == 0
    assert _left_out(_fog(3.0), _numbers(noise=-6.0), LONG) == 0


@pytest.mark.parametrize("switch", [{"cut_quantile": 0.5}, {"midpoint": True}], ids=str)
def test_nothing_is_left_out_where_all_samples_are_needed(switch: dict[str, object]) -> None:
    """A quantile needs all densities; an interval between midpoints needs both of its ends."""
    scene, numbers, settings = _fog(1.0, ripple=30.0), _numbers(fine=8), LONG._replace(**switch)
    with torch.no_grad():
        whole = render_rays(*scene, numbers, settings, backend="native")
        stopped = render_rays(*scene, numbers, settings, backend="native", stop_when_opaque=True)
    assert all(torch.equal(a, b) for a, b in zip(whole, stopped, strict=True))
