"""Compiled compositing and importance sampling against the reference in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from render.kernel_checks import SWITCHES, composite_errors, error, importance_error
from torch import Tensor

from threedgp.render import composite
from threedgp.render.backends import compositing_backend
from threedgp.render.native import compositing as native_compositing
from threedgp.render.sampling import fine_distances

pytestmark = pytest.mark.skipif(
    native_compositing.unavailable_reason() is not None, reason=str(native_compositing.unavailable_reason())
)

# float32 against float64: the light that is left is a product of up to 200 factors
TOLERANCE = 2e-6
RAYS = 37  # no multiple of a vector's lanes
COUNTS = [(1,), (2,), (3,), (16,), (96,), (200,), (1, 1), (1, 2), (3, 5), (48, 48), (100, 7)]
NAMES = ("midpoint", "last_back", "sigmoid_color", "white_background", "infinite_last_interval")
Sets = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def _sets(*counts: int, rays: int = RAYS) -> Sets:
    """Samples and unsorted distances, as the fine pass has them; a single set must be sorted."""
    generator = torch.Generator().manual_seed(sum(counts))
    distances = tuple(torch.rand(2, rays, n, generator=generator) for n in counts)
    if len(counts) == 1:
        distances = (distances[0].sort(dim=-1).values,)
    return tuple(torch.randn(2, rays, n, 4, generator=generator) * 2 for n in counts), distances


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_every_output_and_gradient(counts: tuple[int, ...], switches: dict[str, object]) -> None:
    if not (switches.get("midpoint") and sum(counts) < 2):
        errors = composite_errors(counts, RAYS, switches, backend="native")
        assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("counts", [(6,), (3, 5)], ids=str)
def test_switches_together(counts: tuple[int, ...]) -> None:
    for values in itertools.product([False, True], repeat=len(NAMES)):
        errors = composite_errors(counts, RAYS, dict(zip(NAMES, values, strict=True)), backend="native")
        assert max(errors.values()) < TOLERANCE, (values, errors)


def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *a, **k: real(x, *a, **k).fill_(math.nan))
    monkeypatch.setattr(torch, "empty", lambda *a, **k: torch.full(a, math.nan, **k))
    monkeypatch.setattr(torch, "empty_like", lambda x, **k: torch.full_like(x, math.nan))
    for switches in SWITCHES:
        assert max(composite_errors((3, 5), RAYS, switches, backend="native").values()) < TOLERANCE
    assert importance_error(5, 7, RAYS, backend="native") < 1e-6


@pytest.mark.parametrize("asked", [a for n in (1, 2, 3, 4) for a in itertools.combinations(range(4), n)], ids=str)
def test_gradients_of_some_outputs(asked: tuple[int, ...]) -> None:
    samples, distances = _sets(4, 5)
    generator = torch.Generator().manual_seed(0)
    factors = [torch.randn(shape, generator=generator) for shape in ((2, RAYS, 3), (2, RAYS), (2, RAYS, 9), (2, RAYS))]
    results = []
    for backend, dtype in (("native", torch.float32), ("torch", torch.float64)):
        leaves = [s.to(dtype).requires_grad_() for s in samples]
        switches = dict(infinite_last_interval=False, last_back=True, white_background=True)
        seen = composite(tuple(leaves), tuple(d.to(dtype) for d in distances), backend=backend, **switches)
        loss = sum((seen[k] * factors[k]).sum() for k in asked)
        results.append(torch.autograd.grad(loss, leaves))
    assert max(error(a, b) for a, b in zip(*results, strict=True)) < TOLERANCE


def test_a_set_without_gradient() -> None:
    samples, distances = _sets(4, 5)
    results = []
    for some in ([0], [1], [0, 1]):
        leaves = [s.clone().requires_grad_(k in some) for k, s in enumerate(samples)]
        seen = composite(tuple(leaves), distances, backend="native")
        made = torch.autograd.grad(seen.rgb.square().sum(), [leaves[k] for k in some])
        results.append(dict(zip(some, made, strict=True)))
    assert torch.equal(results[0][0], results[2][0])
    assert torch.equal(results[1][1], results[2][1])


def test_equal_distances_keep_their_order() -> None:
    # If samples coincide, only the last has a length, and it is opaque; both zeros are the same place.
    at = (torch.tensor([[0.5, 0.0, 1.0]]), torch.tensor([[1.0, -0.0, 1.0, 0.5]]))
    samples = [torch.full((1, n, 4), 30.0) for n in (3, 4)]
    for k in range(3):
        samples[0][0, k, 0] = k
    for k in range(4):
        samples[1][0, k, 0] = 10 + k
    seen = composite(tuple(samples), at, backend="native")
    assert seen.weights[0].tolist() == pytest.approx([0, 1, 0, 0, 0, 0, 0], abs=1e-4)
    assert seen.rgb[0, 0].item() == pytest.approx(11, abs=1e-3)
    behind = composite(tuple(samples), tuple(torch.ones_like(d) for d in at), backend="native")
    assert behind.rgb[0, 0].item() == pytest.approx(13, abs=1e-3)


@pytest.mark.parametrize("infinite", [False, True])
def test_weights_are_accurate_for_any_density(infinite: bool) -> None:
    raw = torch.cat([torch.linspace(-87, 87, 4001), torch.tensor([-1e4, 1e4, -200.0, 0.0, -1e-30])])
    samples = torch.cat([torch.ones(len(raw), 1, 3), raw[:, None, None]], dim=-1)
    seen = composite(samples, torch.zeros(len(raw), 1), infinite_last_interval=infinite, backend="native")
    length = 1e10 if infinite else float(torch.tensor(1e-3))  # as float32 has it
    alpha = -torch.expm1(-torch.nn.functional.softplus(raw.double(), threshold=60) * length)
    assert torch.allclose(seen.weights[:, 0].double(), alpha, rtol=6e-7, atol=1e-27)


@pytest.mark.parametrize("raw", [-1e4, -100.0, 1e4, 1e30])
def test_extreme_densities_have_finite_gradients(raw: float) -> None:
    samples, distances = _sets(3, 4)
    leaves = [torch.cat([s[..., :3], torch.full_like(s[..., :1], raw)], dim=-1).requires_grad_() for s in samples]
    seen = composite(tuple(leaves), distances, backend="native")
    assert torch.equal(seen.weights.sum(-1), torch.full((2, RAYS), float(raw > 0)))
    gradients = torch.autograd.grad(seen.rgb.sum() + seen.depth.sum() + seen.transmittance.sum(), leaves)
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["distance", "density", "color"])
def test_non_finite_values_stay_on_their_ray(where: str, value: float) -> None:
    ray = 21
    for place in range(9):
        samples, distances = _sets(4, 5)
        plain = _value_and_gradients(samples, distances)
        k, at = (0, place) if place < 4 else (1, place - 4)
        if where == "distance":
            distances[k][1, ray, at] = value
        else:
            samples[k][1, ray, at, 3 if where == "density" else 1] = value
        changed = _value_and_gradients(samples, distances)
        for a, b in zip(plain, changed, strict=True):
            a[1, ray], b[1, ray] = 0, 0
            assert torch.equal(a, b)


def _value_and_gradients(samples: tuple[Tensor, ...], distances: tuple[Tensor, ...]) -> list[Tensor]:
    leaves = [s.clone().requires_grad_() for s in samples]
    seen = composite(tuple(leaves), distances, backend="native")
    gradients = torch.autograd.grad(seen.rgb.square().sum() + seen.depth.sum(), leaves)
    return [*(x.detach().clone() for x in seen), *gradients]


def test_nan_propagates() -> None:
    """NaN in, NaN out, as in the reference, so that a diverged training run is noticed."""
    for k in range(9):
        samples, distances = _sets(9)
        samples[0][0, 5, k, 3] = math.nan
        seen, plain = (composite(samples[0], distances[0], backend=name) for name in ("native", "torch"))
        for actual, expected in zip(seen, plain, strict=True):
            assert torch.equal(actual.isnan(), expected.isnan())
        u = torch.rand(2, RAYS, 6)
        fine = [fine_distances(distances[0], samples[0], u, 0.0, name) for name in ("native", "torch")]
        assert torch.equal(fine[0].isnan(), fine[1].isnan())


def test_nan_distances_come_last() -> None:
    samples, distances = _sets(3, 4)
    distances[0][..., 1] = -math.nan
    seen, plain = (composite(samples, distances, backend=name) for name in ("native", "torch"))
    assert torch.equal(seen.weights.isnan(), plain.weights.isnan())
    assert not seen.weights[..., :5].isnan().any()


def test_lanes_and_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_compositing, "MIN_SAMPLES_PER_THREAD", 1000)
    samples, distances = _sets(20, 17, rays=1501)
    u = torch.rand(2, 1501, 17)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            fine = fine_distances(distances[0], samples[0], u, 0.0, "native")
            results.append([*_value_and_gradients(samples, distances), fine])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    some = (0, slice(700, 733))
    alone = _value_and_gradients(tuple(s[some] for s in samples), tuple(d[some] for d in distances))
    assert all(torch.equal(a[some], b) for a, b in zip(results[0], alone, strict=False))


def test_inputs_in_any_layout() -> None:
    samples, distances = _sets(4, 5)
    expected = _value_and_gradients(samples, distances)
    strange = tuple(s.movedim(-1, 0).contiguous().movedim(0, -1) for s in samples)
    turned = tuple(torch.stack([d, d], dim=-1)[..., 0] for d in distances)
    assert not any(x.is_contiguous() for x in (*strange, *turned))
    assert all(torch.equal(a, b) for a, b in zip(_value_and_gradients(strange, turned), expected, strict=True))
    u = torch.rand(2, 6, RAYS).transpose(1, 2)
    fine = fine_distances(turned[0], strange[0], u, 0.0, "native")
    assert torch.equal(fine, fine_distances(distances[0], samples[0], u.contiguous(), 0.0, "native"))


def test_a_gradient_in_any_layout() -> None:
    samples, distances = _sets(4, 5)
    made = []
    for gradient in (torch.ones(()).expand(2, RAYS, 3), torch.ones(2, RAYS, 3)):
        leaf = samples[0].clone().requires_grad_()
        composite((leaf, samples[1]), distances, backend="native").rgb.backward(gradient)
        made.append(leaf.grad)
    assert torch.equal(*made)


def test_no_rays_and_no_leading_dimensions() -> None:
    samples, distances = _sets(3, 4, rays=0)
    assert [tuple(x.shape) for x in _value_and_gradients(samples, distances)][:4] == [
        (2, 0, 3),
        (2, 0),
        (2, 0, 7),
        (2, 0),
    ]
    assert fine_distances(distances[0], samples[0], torch.rand(2, 0, 5), 0.0, "native").shape == (2, 0, 5)
    samples, distances = _sets(3)
    assert fine_distances(distances[0], samples[0], torch.rand(2, RAYS, 0), 0.0, "native").shape == (2, RAYS, 0)
    one = composite(samples[0][0, 0], distances[0][0, 0], backend="native")
    assert [tuple(x.shape) for x in one] == [(3,), (), (3,), ()]


@pytest.mark.parametrize(("count", "fine"), [(3, 5), (8, 17), (16, 1), (48, 48), (200, 96)])
@pytest.mark.parametrize("bias", [0.0, -2.0])
def test_importance(count: int, fine: int, bias: float) -> None:
    # Where there is little density, an error in the distribution function moves a sample far.
    assert importance_error(count, fine, RAYS, bias=bias, backend="native") < 5e-5


def test_importance_at_the_ends() -> None:
    at, u = torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([[0.0, 1.0, 0.5]])
    empty = torch.full((1, 4, 4), -100.0)
    drawn = native_compositing.importance(at, empty, u, 0.0)
    assert drawn[0].tolist() == pytest.approx([1.5, 6.0, 3.0], rel=1e-6)
    two = native_compositing.importance(at[:, :2], empty[:, :2], u, 0.0)
    assert two.tolist() == [[1.5, 1.5, 1.5]]


def test_only_inputs_are_kept() -> None:
    samples, distances = _sets(4, 5)
    leaves, kept = [s.requires_grad_() for s in samples], []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        composite(tuple(leaves), distances, backend="native")
    assert {x.data_ptr() for x in kept} == {x.data_ptr() for x in (*leaves, *distances)}


def test_second_derivatives_are_refused() -> None:
    samples, distances = _sets(4, 5)
    leaf = samples[0].requires_grad_()
    seen = composite((leaf, samples[1]), distances, backend="native")
    (gradient,) = torch.autograd.grad(seen.rgb.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once; use backend='torch'"):
        gradient.sum().backward()


def test_compiles_without_a_graph_break() -> None:
    samples, distances = _sets(4, 5)

    def loss(first: Tensor, second: Tensor) -> Tensor:
        seen = composite((first, second), distances, midpoint=True)
        return seen.rgb.square().sum() + seen.weights.square().sum()

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [s.clone().requires_grad_() for s in samples]
        value = function(*leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(*results, strict=True))


def test_selection_of_the_backend() -> None:
    single = torch.zeros(3, 4)
    chosen = {name: compositing_backend(name, single) for name in ("auto", "native", "torch")}
    assert chosen == {"auto": "native", "native": "native", "torch": "torch"}
    assert compositing_backend("auto", single.double()) == "torch"
    assert compositing_backend("auto", single.bfloat16()) == "torch"
    for unsupported in (single.double(), single.to("meta")):
        with pytest.raises(ValueError, match="backend: 'native' is not available: it"):
            compositing_backend("native", unsupported)
