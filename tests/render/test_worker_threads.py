"""Threads of our own work as the caller does: in inference mode or not, without autograd, all pieces once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from threedgp.render import Decoder, RaySettings, midpoint_randomness, render_rays
from threedgp.render.worker_threads import share


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("inference", [False, True])
def test_pieces_may_write_what_the_caller_made(threads: int, inference: bool) -> None:
    with torch.inference_mode(inference):
        out = torch.zeros(5)
        modes: list[bool] = []

        def work(k: int) -> None:
            modes.append(torch.is_inference_mode_enabled() or torch.is_grad_enabled())
            out[k] += k

        share(work, 5)
    assert out.tolist() == [0, 1, 2, 3, 4]
    assert modes == [inference] * 5, "no autograd, and the mode of the caller"


@pytest.mark.parametrize("backend", ["blocked", "native"])
def test_rendering_in_inference_mode_is_rendering(threads: int, backend: str) -> None:
    draw = torch.Generator().manual_seed(0)
    planes = torch.randn(3, 3, 8, 8, 8, generator=draw)
    decoder = Decoder(*(torch.randn(*shape, generator=draw) for shape in ((16, 8), (16,), (4, 16), (4,))))
    origins = torch.tensor([0.0, 0.0, 1.0]).expand(3, 20, 3).contiguous()
    directions = torch.nn.functional.normalize(torch.randn(3, 20, 3, generator=draw) * 0.2 - origins, dim=-1)
    settings = RaySettings(near=0.75, far=1.25, half_width=0.5)
    randomness = midpoint_randomness(3, 20, 8, 8, origins)
    plain = render_rays(planes, decoder, origins, directions, randomness, settings, backend=backend)
    with torch.inference_mode():
        again = render_rays(
            planes, decoder, origins, directions, randomness, settings, backend=backend, stop_when_opaque=True, chunk=20
        )
    # What is left out lets at most 0.01 % of the light through, and moves where the second pass samples.
    torch.testing.assert_close(again.rgb, plain.rgb, atol=5e-3, rtol=0)
