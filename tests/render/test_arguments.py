"""Arguments of the public functions: which are valid, and the errors for wrong shapes, dtypes, devices and values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from render.kernel_checks import needs_compiler
from torch import Tensor

from threedgp.render import (
    Composite,
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    contract,
    field_along_rays,
    field_at_points,
    importance_distances,
    merge_samples,
    midpoint_randomness,
    render_rays,
    stratified_distances,
    uncontract,
)

ENGINES = ["torch", pytest.param("native", marks=needs_compiler)]
B, R, S, F, C, H = 2, 5, 4, 6, 8, 16
SETTINGS = RaySettings(0.2, 0.9, 0.5)


def _scene() -> tuple[Tensor, Decoder, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    planes, origins, directions = (torch.randn(*s, generator=draw) for s in ((B, 3, 7, 6, C), (B, R, 3), (B, R, 3)))
    shapes = ((H, C), (H,), (4, H), (4,))
    return planes, Decoder(*(torch.randn(*s, generator=draw) for s in shapes)), origins * 0.2, directions


def _numbers() -> RayRandomness:
    draw = torch.Generator().manual_seed(1)
    return RayRandomness(*(torch.rand(B, R, n, generator=draw) for n in (S, F)))


def _render(settings: RaySettings = SETTINGS, **options: object) -> Composite:
    """`render_rays` with some of its arguments replaced."""
    names = ("planes", "decoder", "origins", "directions")
    given = dict(zip(names, _scene(), strict=True)) | {"randomness": _numbers()} | options
    return render_rays(settings=settings, **given)


def _field(decoder: dict[str, Tensor] | None = None, distances: Tensor | None = None, **options: object) -> Tensor:
    planes, layers, origins, directions = _scene()
    t = torch.linspace(0, 1, S).expand(B, R, S) if distances is None else distances
    given = dict(planes=planes, origins=origins, directions=directions, distances=t, half_width=0.5) | options
    return field_along_rays(decoder=layers._replace(**decoder or {}), **given)


def _points(points: Tensor, **options: object) -> Tensor:
    planes, decoder, *_ = _scene()
    return field_at_points(options.pop("planes", planes), decoder, points, half_width=0.5, **options)


def _union(
    *sizes: tuple[int, ...], dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3, **options: object
) -> object:
    distances = tuple(torch.zeros(s, dtype=d) for s, d in zip(sizes, dtypes, strict=False))
    samples = tuple(torch.zeros(*s, 4, dtype=d) for s, d in zip(sizes, dtypes, strict=False))
    return composite(samples, distances, **options)


LINE, ROW, META = torch.zeros(B, R, S), torch.zeros(B, R, 3), torch.device("meta")
DOUBLE, WHOLE = torch.float64, torch.int64

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    # the field along rays
    "planes without dimensions": (lambda: _field(planes=torch.tensor(0.0)), r"planes: expected \[B, 3, H, W, C\]"),
    "planes without rows": (
        lambda: _field(planes=torch.zeros(B, 3, 0, 4, C)),
        r"planes: expected \[B, 3, H, W, C\] with H, W and C at least 1, got \[2, 3, 0, 4, 8\]",
    ),
    "planes without channels": (lambda: _field(planes=torch.zeros(B, 3, 4, 4, 0)), "planes: expected .* at least 1"),
    "whole planes": (lambda: _field(planes=_scene()[0].long()), "planes: expected a floating dtype, got torch.int64"),
    "complex planes": (lambda: _field(planes=_scene()[0] + 0j), "planes: expected a floating dtype"),
    "planes elsewhere": (
        lambda: _field(planes=_scene()[0].to(META)),
        "planes: expected on cpu like distances, got meta",
    ),
    "flat weights": (
        lambda: _field({"weight_1": torch.zeros(H * C)}),
        r"decoder.weight_1: expected \[H, 8\], got \[128\]",
    ),
    "weights of three dimensions": (
        lambda: _field({"weight_1": torch.zeros(1, H, C)}),
        r"decoder.weight_1: expected \[H, 8\], got \[1, 16, 8\]",
    ),
    "scalar weights": (
        lambda: _field({"weight_1": torch.tensor(0.0)}),
        r"decoder.weight_1: expected \[H, 8\], got \[\]",
    ),
    "no hidden units": (lambda: _field({"weight_1": torch.zeros(0, C)}), r"decoder.weight_1: expected \[H, 8\]"),
    "too many features": (lambda: _field({"weight_1": torch.zeros(H, 9)}), "decoder: takes 9 features, planes have 8"),
    "long bias": (lambda: _field({"bias_1": torch.zeros(17)}), r"decoder.bias_1: expected \[16\], got \[17\]"),
    "three outputs": (
        lambda: _field({"weight_2": torch.zeros(3, H)}),
        r"decoder.weight_2: expected \[4, 16\], got \[3, 16\]",
    ),
    "long last bias": (lambda: _field({"bias_2": torch.zeros(5)}), r"decoder.bias_2: expected \[4\], got \[5\]"),
    "half bias": (
        lambda: _field({"bias_2": torch.zeros(4).half()}),
        "decoder.bias_2: expected torch.float32 like dist",
    ),
    "bias elsewhere": (lambda: _field({"bias_1": torch.zeros(H, device=META)}), "decoder.bias_1: expected on cpu like"),
    "origins of two coordinates": (lambda: _field(origins=torch.zeros(B, R, 2)), r"origins: expected \[2, 5, 3\]"),
    "double origins": (lambda: _field(origins=ROW.double()), "origins: expected torch.float32 like distances"),
    "directions elsewhere": (lambda: _field(directions=ROW.to(META)), "directions: expected on cpu like distances"),
    "distances of two dimensions": (lambda: _field(distances=torch.zeros(B, R)), r"distances: expected \[2, R, S\]"),
    "distances of another batch": (lambda: _field(distances=torch.zeros(1, R, S)), r"distances: expected \[2, R, S\]"),
    "whole distances": (lambda: _field(distances=LINE.long()), "distances: expected a floating dtype, got torch.int64"),
    "noise of another length": (lambda: _field(noise=torch.zeros(B, R, S + 1)), r"noise: expected \[2, 5, 4\]"),
    "double noise": (lambda: _field(noise=LINE.double()), "noise: expected torch.float32 like distances"),
    "no width": (lambda: _field(half_width=0.0), "half_width: expected a positive number, got 0.0"),
    "width that is no number": (
        lambda: _field(half_width=float("nan")),
        "half_width: expected a positive number, got nan",
    ),
    "unknown backend": (lambda: _field(backend="cuda"), r"backend: expected one of \['auto', .*\], got 'cuda'"),
    # the field at points
    "points of two coordinates": (
        lambda: _points(torch.zeros(B, 9, 2)),
        r"points: expected \[2, N, 3\], got \[2, 9, 2\]",
    ),
    "points of no dimension": (lambda: _points(torch.tensor(0.0)), r"points: expected \[2, N, 3\], got \[\]"),
    "whole points": (
        lambda: _points(torch.zeros(B, 9, 3).long()),
        "points: expected a floating dtype, got torch.int64",
    ),
    "double points": (
        lambda: _points(torch.zeros(B, 9, 3).double()),
        "decoder.weight_1: expected torch.float64 like points",
    ),
    "points elsewhere": (
        lambda: _points(torch.zeros(B, 9, 3, device=META)),
        "planes: expected on meta like points, got cpu",
    ),
    "points in planes without dimensions": (
        lambda: _points(torch.zeros(B, 9, 3), planes=torch.tensor(0.0)),
        r"planes: expected \[B, 3, H, W, C\], got \[\]",
    ),
    # rendering
    "rendered planes without dimensions": (lambda: _render(planes=torch.tensor(0.0)), "planes: expected"),
    "rendered planes elsewhere": (
        lambda: _render(planes=_scene()[0].to(META)),
        "planes: expected on cpu like randomness.coarse, got meta",
    ),
    "scalar origins": (lambda: _render(origins=torch.tensor(0.0)), r"origins: expected \[2, 5, 3\], got \[\]"),
    "flat directions": (lambda: _render(directions=torch.zeros(B * R * 3)), r"directions: expected \[2, 5, 3\]"),
    "double origins of rays": (
        lambda: _render(origins=ROW.double()),
        "origins: expected torch.float32 like randomness.c",
    ),
    "scalar randomness": (
        lambda: _render(randomness=RayRandomness(torch.tensor(0.0), LINE)),
        "randomness.coarse: expected",
    ),
    "whole randomness": (
        lambda: _render(randomness=RayRandomness(LINE.long(), LINE)),
        "randomness.coarse: expected a floating dtype, got torch.int64",
    ),
    "scalar fine randomness": (
        lambda: _render(randomness=RayRandomness(LINE, torch.tensor(0.0))),
        "randomness.fine: expected",
    ),
    "no samples at all": (
        lambda: _render(randomness=RayRandomness(LINE[..., :0], LINE[..., :0])),
        "at least one sample",
    ),
    "more random numbers than rays, in chunks": (
        lambda: _render(randomness=RayRandomness(*(torch.rand(B, 2 * R, S) for _ in range(2))), chunk=R),
        r"origins: expected \[2, 10, 3\], got \[2, 5, 3\]",
    ),
    "more directions than rays, in chunks": (
        lambda: _render(directions=torch.zeros(B, 2 * R, 3), chunk=R),
        r"directions: expected \[2, 5, 3\], got \[2, 10, 3\]",
    ),
    "chunks of no rays": (lambda: _render(chunk=0), "chunk: expected at least 1 ray, or None, got 0"),
    "chunks of less": (lambda: _render(chunk=-1), "chunk: expected at least 1 ray, or None, got -1"),
    "far before near": (lambda: _render(SETTINGS._replace(far=0.1)), "near, far: expected .* got 0.2 and 0.1"),
    "endless rays": (lambda: _render(SETTINGS._replace(far=float("inf"))), "near, far: expected .* got 0.2 and inf"),
    "negative width": (lambda: _render(SETTINGS._replace(half_width=-1.0)), "half_width: expected a positive number"),
    "quantile over one": (
        lambda: _render(SETTINGS._replace(cut_quantile=50)),
        "cut_quantile: expected a number .*, got 50",
    ),
    # compositing
    "samples of three values": (
        lambda: composite(torch.zeros(R, S, 3), torch.zeros(R, S)),
        r"samples: expected \[5, 4, 4\], got \[5, 4, 3\]",
    ),
    "whole samples": (
        lambda: composite(torch.zeros(R, S, 4).long(), torch.zeros(R, S).long()),
        "distances: expected a float",
    ),
    "double distances": (
        lambda: composite(torch.zeros(R, S, 4), torch.zeros(R, S).double()),
        "distances: expected torch.fl",
    ),
    "distances elsewhere": (
        lambda: composite(torch.zeros(R, S, 4), torch.zeros(R, S, device=META)),
        "distances: expected on",
    ),
    "half samples to infinity": (
        lambda: _union((R, S), dtypes=(torch.float16,)),
        "samples: torch.float16 cannot represent",
    ),
    "no set": (lambda: composite((), ()), "samples, distances: expected one or two sets, got 0 and 0"),
    "three sets": (lambda: _union((R, S), (R, S), (R, S)), "samples, distances: expected one or two sets, got 3 and 3"),
    "distances missing": (
        lambda: composite((torch.zeros(R, S, 4),) * 2, (torch.zeros(R, S),)),
        "samples, distances: expected one or two sets, got 2 and 1",
    ),
    "sets of other rays": (lambda: _union((R, S), (R - 1, F)), r"distances\[1\]: expected \[5, S\], got \[4, 6\]"),
    "sets of other dtypes": (
        lambda: _union((R, S), (R, F), dtypes=(torch.float32, DOUBLE)),
        r"samples\[1\]: expected torch.float32 like samples\[0\], got torch.float64",
    ),
    "a set without samples": (lambda: _union((R, S), (R, 0)), r"distances\[1\]: expected \[..., S\] with at least one"),
    "one midpoint": (lambda: _union((R, 1), midpoint=True), "distances: midpoint compositing needs at least 2 samples"),
    # sampling
    "scalar u": (lambda: stratified_distances(torch.tensor(0.5), 0.0, 1.0), r"u: expected \[..., S\], got \[\]"),
    "whole u": (lambda: stratified_distances(torch.zeros(3).long(), 0.0, 1.0), "u: expected a floating dtype"),
    "far under near": (
        lambda: stratified_distances(torch.zeros(3), 1.0, 0.0),
        "near, far: expected numbers with near < far",
    ),
    "one distance": (
        lambda: importance_distances(LINE[..., :1], LINE[..., :1], LINE),
        "distances: expected .* at least 2",
    ),
    "weights of intervals": (
        lambda: importance_distances(LINE, LINE[..., 1:], LINE),
        r"weights: expected \[2, 5, 4\], got \[2, 5, 3\]",
    ),
    "u of other rays": (
        lambda: importance_distances(LINE, LINE, LINE[:, 1:]),
        r"u: expected \[2, 5, F\], got \[2, 4, 4\]",
    ),
    "double u": (lambda: importance_distances(LINE, LINE, LINE.double()), "u: expected torch.float32 like distances"),
    "weights elsewhere": (
        lambda: importance_distances(LINE, LINE.to(META), LINE),
        "weights: expected on cpu like distances",
    ),
    "merged samples of another length": (
        lambda: merge_samples((LINE, LINE), (LINE[..., None], LINE[..., 1:, None])),
        r"samples\[1\]: expected \[2, 5, 4, 1\], got \[2, 5, 3, 1\]",
    ),
    "merged distances of other rays": (
        lambda: merge_samples((LINE, LINE[:, 1:]), (LINE[..., None], LINE[:, 1:, :, None])),
        r"distances\[1\]: expected \[2, 5, S\], got \[2, 4, 4\]",
    ),
    "merged sets of three": (
        lambda: merge_samples((LINE,) * 3, (LINE[..., None],) * 3),
        "expected two sets of each, got 3",
    ),
    "merged dtypes": (
        lambda: merge_samples((LINE, LINE.double()), (LINE[..., None],) * 2),
        r"distances\[1\]: expected torch.fl",
    ),
    "whole like": (lambda: midpoint_randomness(1, 2, 3, 4, torch.zeros(1).long()), "like: expected a floating dtype"),
    "less than no samples": (
        lambda: midpoint_randomness(1, 2, -1, 4, torch.zeros(1)),
        "coarse: expected 0 or more, got -1",
    ),
    # contraction
    "two coordinates": (lambda: contract(torch.zeros(5, 2)), r"points: expected \[\.\.\., 3\], got \[5, 2\]"),
    "a number": (lambda: contract(torch.tensor(1.0)), r"points: expected \[\.\.\., 3\], got \[\]"),
    "whole points to contract": (lambda: contract(torch.ones(5, 3).long()), "points: expected a floating dtype"),
    "two coordinates back": (lambda: uncontract(torch.zeros(3, 2)), r"points: expected \[\.\.\., 3\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_error_names_the_argument(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("batch", "rays", "samples"), [(B, 0, S), (B, R, 0), (0, R, S)])
def test_empty_inputs_are_valid(engine: str, batch: int, rays: int, samples: int) -> None:
    planes, decoder, *_ = _scene()
    leaves = [x.clone().requires_grad_() for x in (planes[:batch], *decoder, *(torch.zeros(batch, rays, 3),) * 2)]
    distances = torch.zeros(batch, rays, samples)
    out = field_along_rays(leaves[0], Decoder(*leaves[1:5]), *leaves[5:], distances, half_width=0.5, backend=engine)
    assert out.shape == (batch, rays, samples, 4)
    for leaf, gradient in zip(leaves, torch.autograd.grad(out.sum(), leaves), strict=True):
        assert gradient.shape == leaf.shape
        assert not gradient.any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", [{}, {"chunk": 3}, {"stop_when_opaque": True}], ids=str)
@pytest.mark.parametrize("quantile", [0.0, 0.5])
def test_no_rays_render_to_empty_tensors(engine: str, options: dict[str, object], quantile: float) -> None:
    planes, decoder, origins, directions = _scene()
    numbers = RayRandomness(*(x[:, :0] for x in _numbers()[:2]))
    settings = SETTINGS._replace(cut_quantile=quantile)
    rays = (planes, decoder, origins[:, :0], directions[:, :0], numbers, settings)
    seen = render_rays(*rays, backend=engine, **options)
    assert [tuple(x.shape) for x in seen] == [(B, 0, 3), (B, 0), (B, 0, S + F), (B, 0)]
