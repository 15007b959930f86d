"""The blocked engine: both ways to sample planes, sizes of blocks, threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from render.kernel_checks import FieldCase, field_errors, field_inputs
from torch import Tensor

from threedgp.render import Decoder, blocked_field, field_along_rays
from threedgp.render.plane_grids import PlaneGrids
from threedgp.render.texel_rows import TexelRows
from threedgp.render.worker_threads import share

# float32 against float64; sums of a few hundred terms
TOLERANCE = 5e-6

CASES = {
    "odd sizes": FieldCase(channels=24),
    "contraction, noise, contiguous": FieldCase(contraction=True, noise=True, channels_last=False, spread=1.5),
    "one texel high": FieldCase(channels=16, height=1, width=4, contraction=True),
    "many images of few samples": FieldCase(batch=7, rays=3, samples=2, channels=8, hidden=16),
    "one sample": FieldCase(batch=1, channels=32, hidden=128, samples=1, rays=9),
}
SAMPLERS = {"grids": (PlaneGrids, 1 << 60), "rows": (TexelRows, 0)}


@pytest.fixture
def threads() -> Iterator[int]:
    """PyTorch's number of threads, put back afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", CASES)
def test_both_samplers_on_all_cases(name: str, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, limit = SAMPLERS[sampler]
    monkeypatch.setattr(blocked_field, "GRID_FLOATS", limit)
    monkeypatch.setattr(blocked_field, "GRID_CHANNELS", limit)
    assert isinstance(blocked_field._sampler(torch.zeros(1, 3, 2, 2, 32)), kind)
    errors = field_errors(CASES[name], "blocked")
    if CASES[name].height == 1:  # a plane of one row is the same along it: its derivative is truly zero there
        errors = {k: v for k, v in errors.items() if not k.startswith("silent")}
    assert max(errors.values()) < TOLERANCE, errors


def test_the_sampler_is_chosen_by_channels_and_size() -> None:
    assert isinstance(blocked_field._sampler(torch.empty(1, 3, 32, 32, 8)), PlaneGrids)
    assert isinstance(blocked_field._sampler(torch.empty(1, 3, 32, 32, 32)), TexelRows)
    assert isinstance(blocked_field._sampler(torch.empty(1, 3, 512, 512, 8)), TexelRows)


def _results(sizes: FieldCase) -> list[Tensor]:
    planes, decoder, origins, directions, distances, _ = field_inputs(sizes, "cpu")
    leaves = [x.clone().requires_grad_() for x in (planes, *decoder, origins, directions)]
    out = field_along_rays(
        *(leaves[0], Decoder(*leaves[1:5]), leaves[5], leaves[6], distances), half_width=0.5, backend="blocked"
    )
    out.square().sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("floats", [1, 100, 1000])
@pytest.mark.parametrize("channels", [8, 24])
def test_blocks_of_any_size_agree(floats: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = FieldCase(batch=3, channels=channels, rays=8, samples=5)
    whole = _results(case)
    monkeypatch.setattr(blocked_field, "BLOCK_FLOATS", floats)
    # float32 sums in another order
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(_results(case), whole, strict=True))


@pytest.mark.parametrize("channels", [8, 24])
def test_results_do_not_depend_on_threads(channels: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_field, "BLOCK_FLOATS", 4000)
    case = FieldCase(batch=5, channels=channels, rays=40, samples=9)
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        results.append(_results(case))
        assert torch.get_num_threads() == count
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_sharing_does_all_and_raises_what_went_wrong(threads: int) -> None:
    torch.set_num_threads(2)
    done = torch.zeros(7)
    share(lambda k: done[k].fill_(k + torch.get_num_threads()), 7)
    assert done.tolist() == [k + 1 for k in range(7)]  # one thread of PyTorch's to each of ours
    with pytest.raises(ZeroDivisionError):
        share(lambda k: 1 / (k - 3), 7)
    assert torch.get_num_threads() == 2


def test_rays_that_are_not_numbers_see_empty_space() -> None:
    for channels in (8, 32):
        planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(channels=channels), "cpu")
        nowhere = torch.full_like(origins, float("nan"))
        rays = (decoder, nowhere, directions, distances)
        out = field_along_rays(planes, *rays, half_width=0.5, backend="blocked")
        empty = field_along_rays(torch.zeros_like(planes), decoder, origins, directions, distances, half_width=0.5)
        assert torch.allclose(out, empty, atol=1e-6)
