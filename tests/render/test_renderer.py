"""Whole rendering against a naive composition, its options, and errors that name the argument."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from render.kernel_checks import FieldCase, field_inputs
from torch import Tensor

from threedgp.render import (
    Composite,
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    field_along_rays,
    importance_distances,
    midpoint_randomness,
    render_rays,
    stratified_distances,
)
from threedgp.render.renderer import sample_rays

SETTINGS = RaySettings(near=0.2, far=0.9, half_width=0.5)
CASE = FieldCase(rays=12, spread=0.2)


def _inputs(coarse: int = 5, fine: int = 6) -> tuple[Tensor, Decoder, Tensor, Tensor, RayRandomness]:
    planes, decoder, origins, directions, *_ = field_inputs(CASE, "cpu")
    generator = torch.Generator().manual_seed(3)
    u = (torch.rand(CASE.batch, CASE.rays, n, generator=generator) for n in (coarse, fine))
    noise = (torch.randn(CASE.batch, CASE.rays, n, generator=generator) for n in (coarse, fine))
    return planes, decoder, origins, directions, RayRandomness(*u, *noise)


def _naive(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    numbers: RayRandomness,
    settings: RaySettings = SETTINGS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, color and raw density of both passes, sorted, with one `grid_sample` for each plane."""

    def field(distances: Tensor, noise: Tensor) -> Tensor:
        points = (origins[:, :, None] + distances[..., None] * directions[:, :, None]) / settings.half_width
        if settings.contraction:  # planes reach to radius 2
            radius = points.norm(dim=-1, keepdim=True)
            points = torch.where(radius > 1, (2 - 1 / radius) * points / radius, points) / 2
        features = sum(
            F.grid_sample(planes[:, k].permute(0, 3, 1, 2), points[..., axes], align_corners=True)
            for k, axes in enumerate(([0, 1], [0, 2], [1, 2]))
        ).movedim(1, -1)
        hidden = F.leaky_relu(features / 3 @ decoder.weight_1.t() + decoder.bias_1, 0.2) * 2**0.5
        out = hidden @ decoder.weight_2.t() + decoder.bias_2
        return torch.cat([out[..., :3], out[..., 3:] + noise[..., None]], dim=-1)

    coarse = stratified_distances(numbers.coarse, settings.near, settings.far)
    samples = field(coarse, numbers.coarse_noise)
    weights = composite(samples, coarse, density_bias=settings.density_bias, backend="torch").weights
    fine = importance_distances(coarse, weights, numbers.fine)
    distances, order = torch.cat([coarse, fine], dim=-1).sort(dim=-1)
    samples = torch.cat([samples, field(fine, numbers.fine_noise)], dim=-2)
    samples = samples.gather(-2, order[..., None].expand_as(samples))
    return distances, samples[..., :3], samples[..., 3]


def _seen(distances: Tensor, rgb: Tensor, raw: Tensor, **switches: object) -> Composite:
    return composite(torch.cat([rgb, raw[..., None]], dim=-1), distances, backend="torch", **switches)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_matches_a_naive_composition(backend: str) -> None:
    inputs = _inputs()
    seen, expected = render_rays(*inputs, SETTINGS, backend=backend), _seen(*_naive(*inputs))
    # float32, and distances that move with the rounding of the first pass
    assert torch.allclose(seen.rgb, expected.rgb, atol=2e-5)
    assert torch.allclose(seen.depth, expected.depth, atol=2e-5)
    assert torch.allclose(seen.weights, expected.weights, atol=2e-5)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("fine", [0, 6])
@pytest.mark.parametrize(
    "switches",
    [{"density_bias": -3.0}, {"contraction": True, "far": 5.0}, {"midpoint": True, "density_bias": 2.0}],
    ids=str,
)
def test_settings_of_the_field_reach_both_passes(backend: str, fine: int, switches: dict[str, object]) -> None:
    inputs, settings = _inputs(fine=fine), SETTINGS._replace(infinite_last_interval=False, **switches)
    distances, rgb, raw = _naive(*inputs, settings)
    how = dict(midpoint=settings.midpoint, density_bias=settings.density_bias, infinite_last_interval=False)
    expected = _seen(distances, rgb, raw, **how)
    seen = render_rays(*inputs, settings, backend=backend)
    assert torch.allclose(seen.rgb, expected.rgb, atol=5e-5)
    assert torch.allclose(seen.depth, expected.depth, atol=5e-5)
    without = render_rays(*inputs, settings._replace(density_bias=0.0, contraction=False), backend=backend)
    assert not torch.allclose(seen.rgb, without.rgb, atol=1e-2)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("quantile", [0.25, 0.9])
def test_densities_under_the_quantile_of_the_image_or_batch_are_cut(quantile: float, batch: bool) -> None:
    inputs = _inputs()
    finite = dict(infinite_last_interval=False)  # under an infinite last interval any density is opaque
    settings = SETTINGS._replace(cut_quantile=quantile, cut_batch=batch, **finite)
    distances, rgb, raw = _naive(*inputs)
    ranked = [part.flatten().sort().values for part in ([raw] if batch else raw)]
    threshold = torch.stack([values[int(quantile * len(values))] for values in ranked])
    cut = torch.where(raw < threshold[:, None, None], -100.0, raw)
    expected, uncut = _seen(distances, rgb, cut, **finite), _seen(distances, rgb, raw, **finite)
    seen = render_rays(*inputs, settings)
    assert torch.allclose(seen.rgb, expected.rgb, atol=2e-5)
    assert not torch.allclose(seen.rgb, uncut.rgb, atol=1e-3)
    other = render_rays(*inputs, settings._replace(cut_batch=not batch))
    assert not torch.allclose(seen.rgb, other.rgb, atol=1e-3)


def test_options_reach_the_compositing() -> None:
    inputs = _inputs()
    naive = _naive(*inputs)
    for switches in (
        dict(infinite_last_interval=False, last_back=True),
        dict(infinite_last_interval=False, white_background=True),
        dict(midpoint=True, sigmoid_color=True),
    ):
        seen = render_rays(*inputs, SETTINGS._replace(**switches))
        assert torch.allclose(seen.rgb, _seen(*naive, **switches).rgb, atol=2e-5), switches


def test_the_coarse_pass_alone() -> None:
    planes, decoder, origins, directions, numbers = _inputs(coarse=1, fine=0)
    seen = render_rays(planes, decoder, origins, directions, numbers, SETTINGS)
    distances = stratified_distances(numbers.coarse, SETTINGS.near, SETTINGS.far)
    rays = (planes, decoder, origins, directions, distances)
    samples = field_along_rays(*rays, half_width=SETTINGS.half_width, noise=numbers.coarse_noise)
    assert torch.allclose(seen.rgb, composite(samples, distances).rgb)


def test_midpoint_randomness() -> None:
    numbers = midpoint_randomness(2, 3, 4, 5, torch.zeros(()))
    assert numbers.coarse.shape == (2, 3, 4)
    assert (numbers.coarse == 0.5).all()
    assert torch.allclose(numbers.fine[1, 2], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))


def test_both_passes_have_the_requested_samples() -> None:
    for backend in ("torch", "auto"):
        distances, samples = sample_rays(*_inputs(4, 7), SETTINGS, backend=backend)
        assert [d.shape[-1] for d in distances] == [4, 7]
        assert [s.shape[-2:] for s in samples] == [(4, 4), (7, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(coarse=torch.zeros(2, 5)), r"randomness.coarse: expected \[2, R, S_c\], got \[2, 5\]"),
        (dict(fine=torch.zeros(2, 11, 6)), r"randomness.fine: expected \[2, 12, S_f\], got \[2, 11, 6\]"),
        (dict(fine=torch.zeros(2, 12, 6).double()), r"randomness.fine: expected torch.float32 like randomness.coarse"),
        (dict(coarse_noise=torch.zeros(2, 12, 6)), r"randomness.coarse_noise: expected \[2, 12, 5\], got \[2, 12, 6\]"),
        (dict(fine_noise=torch.zeros(2, 12, 5)), r"randomness.fine_noise: expected \[2, 12, 6\], got \[2, 12, 5\]"),
        (dict(coarse=torch.zeros(2, 12, 1), coarse_noise=None), r"randomness.coarse: expected .* at least 2 samples"),
    ],
)
def test_wrong_random_numbers_are_named(change: dict[str, object], message: str) -> None:
    *scene, numbers = _inputs()
    with pytest.raises(ValueError, match=message):
        render_rays(*scene, numbers._replace(**change), SETTINGS)
