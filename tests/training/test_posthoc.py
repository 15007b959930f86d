"""Post-hoc EMA against closed forms and averages that were tracked directly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from threedgp.runtime.errors import UserError
from threedgp.training.posthoc import (
    PowerAverages,
    drop_snapshots,
    gamma_of,
    overlap,
    reconstruct,
    save_snapshot,
    snapshots,
)

STEPS, BATCH = 400, 8


class Trajectory(nn.Module):
    """After step t, `unit` is STEPS times the unit vector t, so that an average of it is its own profile of weights;
    `time` is t."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.full((STEPS,), 1e6))  # initial values must have no weight
        self.time = nn.Parameter(torch.tensor(1e6))
        self.register_buffer("constant", torch.tensor([1.0, 1e6]))

    @torch.no_grad()
    def go_to(self, step: int) -> None:
        self.unit.zero_()[step - 1] = STEPS
        self.time.fill_(step)
        self.constant[0] = step


def tracked(folder: Path, sigma_rels: tuple[float, ...], every: int = 40) -> dict[float, dict[str, Tensor]]:
    """Averages at the end of the trajectory; snapshots of those of 0.05 and 0.1 are written to `folder`."""
    network = Trajectory()
    stored, others = PowerAverages(network, (0.05, 0.1)), PowerAverages(network, sigma_rels)
    for step in range(1, STEPS + 1):
        network.go_to(step)
        stored.update(step)
        others.update(step)
        if step % every == 0:
            save_snapshot(folder, step * BATCH, stored, network)
    return others.values


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.1, 6.94)])
def test_exponents_are_those_of_the_paper(sigma_rel: float, gamma: float) -> None:
    assert gamma_of(sigma_rel) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.25])
def test_averages_have_the_closed_form_of_a_power_function(tmp_path: Path, sigma_rel: float) -> None:
    average = tracked(tmp_path, (sigma_rel,), every=STEPS)[sigma_rel]
    steps, gamma = np.arange(STEPS + 1, dtype=float), gamma_of(sigma_rel)
    weights = np.diff((steps / STEPS) ** (gamma + 1))  # the integral of the profile over each step
    times = steps[1:]
    np.testing.assert_allclose(average["unit"].numpy() / STEPS, weights, rtol=1e-4, atol=1e-12)
    assert average["time"].item() == pytest.approx(weights @ times, rel=1e-5)
    deviation = np.sqrt(weights @ times**2 - (weights @ times) ** 2)
    assert deviation / STEPS == pytest.approx(sigma_rel, rel=1e-2), "continuous time in steps of 1 / 400"


def test_inner_products_are_integrals() -> None:
    times = (np.arange(200_000) + 0.5) / 200_000 * 10

    def profile(end: float, gamma: float) -> np.ndarray:
        return np.where(times <= end, (gamma + 1) * times**gamma / end ** (gamma + 1), 0)

    for one, other in [((10, 2.5), (10, 2.5)), ((4, 17.0), (10, 7.0)), ((9, 0.0), (3, 7.0))]:
        integral = (profile(*one) * profile(*other)).mean() * 10
        assert overlap(*one, *other) == pytest.approx(integral, rel=1e-3)


@pytest.mark.parametrize("until", [STEPS * BATCH, STEPS * BATCH // 2])
@pytest.mark.parametrize("sigma_rel", [0.05, 0.1])
def test_a_stored_average_is_reconstructed_exactly(tmp_path: Path, sigma_rel: float, until: int) -> None:
    tracked(tmp_path, ())
    found = reconstruct(tmp_path, sigma_rel, until / 1000)
    for path in [path for images, path in snapshots(tmp_path).items() if images != until]:
        path.unlink()
    alone = reconstruct(tmp_path, sigma_rel)
    assert found.images == alone.images == until
    assert found.error < 1e-6
    for name, value in alone.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.state["constant"], torch.tensor([until / BATCH, 1e6])), "buffers are those of the end"


@pytest.mark.parametrize(("sigma_rel", "tolerance"), [(0.07, 0.01), (0.12, 0.01), (0.2, 0.06)])
def test_other_lengths_are_close_to_averages_that_were_tracked(
    tmp_path: Path, sigma_rel: float, tolerance: float
) -> None:
    expected = tracked(tmp_path, (sigma_rel,))[sigma_rel]
    found = reconstruct(tmp_path, sigma_rel)
    error = (found.state["unit"] - expected["unit"]).norm() / expected["unit"].norm()
    assert error < tolerance
    assert found.error == pytest.approx(error.item(), rel=0.02), "the stated error; float16 is not part of it"
    assert found.state["time"].item() == pytest.approx(expected["time"].item(), rel=tolerance / 10)


def test_snapshots_are_small_and_later_ones_are_dropped(tmp_path: Path) -> None:
    network = Trajectory()
    save_snapshot(tmp_path, 8, PowerAverages(network, (0.05, 0.1)), network)
    save_snapshot(tmp_path, 1_000_000_000, PowerAverages(network, (0.05, 0.1)), network)
    assert list(snapshots(tmp_path)) == [8, 1_000_000_000]
    assert snapshots(tmp_path)[8].stat().st_size < 2 * 2 * STEPS + 1000
    drop_snapshots(tmp_path, 8)
    assert list(snapshots(tmp_path)) == [8]


def test_the_newest_snapshot_may_be_that_of_the_limit_itself(tmp_path: Path) -> None:
    network = Trajectory()
    network.go_to(1)
    for images in (16_000, 16_080):  # 16.08 * 1000 is less than 16,080
        save_snapshot(tmp_path, images, PowerAverages(network, (0.05,)), network)
    assert reconstruct(tmp_path, 0.07, kimg=16.08).images == 16_080


def test_snapshots_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no snapshots there; train with train\.posthoc_ema"):
        reconstruct(tmp_path, 0.07)
    network = Trajectory()
    save_snapshot(tmp_path, 8, PowerAverages(network, (0.05,)), network)
    with pytest.raises(UserError, match=r"first snapshot is that of 0\.008 thousand images, later than 0\.007"):
        reconstruct(tmp_path, 0.07, kimg=0.007)
    with pytest.raises(UserError, match=r"'(time|unit)' holds values that are not finite"):
        reconstruct(tmp_path, 0.07)
    network.go_to(1)
    for images, sigma_rels in ((8, (0.05,)), (16, (0.1,))):
        save_snapshot(tmp_path, images, PowerAverages(network, sigma_rels), network)
    with pytest.raises(UserError, match="snapshots cannot be read"):
        reconstruct(tmp_path, 0.07)
    (tmp_path / "averages-000000016.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="snapshots cannot be read"):
        reconstruct(tmp_path, 0.07)
