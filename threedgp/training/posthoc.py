"""Averages of weights whose length is chosen after training: post-hoc EMA (Karras et al. 2024, "Analyzing and Improving
the Training Dynamics of Diffusion Models", section 3 and appendix C).

An average at time t weights the parameters of time s by a power function, p(s) = (gamma + 1) s^gamma / t^(gamma + 1).
Its length is stated as sigma_rel, the standard deviation of p in units of t. A few averages are tracked during
training, and snapshots of them are kept. A linear combination of all snapshots approximates the average of any other
length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError

FOLDER = "averages"
"""Folder of the snapshots, beside the saved states of a run and in ``results/training``."""
BUFFERS = "buffers"
_NAME = re.compile(r"averages-(\d{9,})\.safetensors")


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a profile: the solution of sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)) that is at
    least 0."""
    one, two, three = (np.poly1d([1, number]) for number in (1, 2, 3))
    return max((two**2 * three * sigma_rel**2 - one).roots.real)


class PowerAverages:
    """Averages of a network's parameters, updated in every step."""

    def __init__(self, network: nn.Module, sigma_rels: Sequence[float]) -> None:
        self._parameters = dict(network.named_parameters())
        self.values = {
            sigma_rel: {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            for sigma_rel in sigma_rels
        }
        """Averaged parameters by name, for each sigma_rel."""
        self._exponents = [gamma_of(sigma_rel) + 1 for sigma_rel in self.values]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the parameters after the step number `step`, counted from 1; the first step replaces the initial ones."""
        for exponent, average in zip(self._exponents, self.values.values(), strict=True):
            decay = (1 - 1 / step) ** exponent
            torch._foreach_lerp_(list(average.values()), list(self._parameters.values()), 1 - decay)

    def state_dict(self) -> dict[float, dict[str, Tensor]]:
        """The averages."""
        return self.values

    def load_state_dict(self, state: dict[float, dict[str, Tensor]]) -> None:
        """Restore a state from `state_dict`."""
        for sigma_rel, average in self.values.items():
            for name, value in average.items():
                value.copy_(state[sigma_rel][name])


def save_snapshot(folder: Path, images: int, averages: PowerAverages, network: nn.Module) -> None:
    """Write the averages in float16 and the buffers of `network` after `images` images. Raises UserError or OSError if
    the disk is full."""
    tensors = {
        f"{sigma_rel}/{name}": value.half()
        for sigma_rel, average in averages.values.items()
        for name, value in average.items()
    }
    parameters = dict(network.named_parameters())
    tensors |= {f"{BUFFERS}/{name}": value for name, value in network.state_dict().items() if name not in parameters}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    require_free(folder, sum(value.nbytes for value in tensors.values()))
    with atomic_path(folder / f"averages-{images:09d}.safetensors") as temporary:
        save_file(tensors, temporary)


def snapshots(folder: Path) -> dict[int, Path]:
    """The snapshots in `folder` by the number of images shown, in ascending order."""
    found = ((match, path) for path in folder.glob("*.safetensors") if (match := _NAME.fullmatch(path.name)))
    return dict(sorted((int(match[1]), path) for match, path in found))


def drop_snapshots(folder: Path, images: int) -> None:
    """Remove the snapshots of more than `images` images: the run continues from there."""
    for shown, path in snapshots(folder).items():
        if shown > images:
            path.unlink()


def overlap(end_a: Any, gamma_a: Any, end_b: Any, gamma_b: Any) -> Any:
    """Inner product of two profiles by their end and exponent (appendix C); arrays are broadcast."""
    first = np.minimum(end_a, end_b)
    powers = (first / end_a) ** (gamma_a + 1) * (first / end_b) ** (gamma_b + 1)
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * powers / first


class Reconstruction(NamedTuple):
    """An average that was computed from snapshots."""

    state: dict[str, Tensor]
    """Parameters in float64, and buffers of the newest snapshot, by name."""
    images: int
    """Images shown at its end."""
    error: float
    """Distance between its profile and the wanted one, relative to the norm of the wanted one."""


def reconstruct(folder: Path, sigma_rel: float, kimg: float = math.inf) -> Reconstruction:
    """The average of length `sigma_rel` at the newest snapshot of at most `kimg` thousand images: the combination of
    snapshots whose profile is closest to the wanted one (least squares). Raises UserError if there are no such
    snapshots, or they cannot be read or combined."""
    known = snapshots(folder)
    if not known:
        raise UserError(f"{folder}: no snapshots there; train with train.posthoc_ema.snapshot_kimg above 0.")
    found = {images: path for images, path in known.items() if images / 1000 <= kimg}
    if not found:
        raise UserError(
            f"{folder}: the first snapshot is that of {min(known) / 1000:g} thousand images, later than "
            f"{kimg:g}; choose a later time."
        )
    try:
        state, error = _combine(found, gamma_of(sigma_rel))
    except (OSError, SafetensorError, ValueError, RuntimeError) as problem:
        reason = str(problem).partition("\n")[0]
        raise UserError(f"{folder}: the snapshots cannot be read ({reason}); restore them or train again.") from None
    for name, value in state.items():
        if not value.isfinite().all():
            raise UserError(f"{folder}: '{name}' holds values that are not finite; choose earlier snapshots.")
    return Reconstruction(state, max(found), error)


def _combine(found: dict[int, Path], gamma: float) -> tuple[dict[str, Tensor], float]:
    """State and error as in `Reconstruction`, from snapshots by images: coefficients x minimize |sum_i x_i p_i - p|^2,
    p_i being the profiles of the snapshots and p that of exponent `gamma`, so that gram x = wanted (appendix C)."""
    end = max(found)
    names: dict[str, list[str]] = {BUFFERS: []}
    with safe_open(found[end], "pt") as file:
        for key in file.keys():  # noqa: SIM118
            kind, _, name = key.partition("/")
            names.setdefault(kind, []).append(name)
        state = {name: file.get_tensor(f"{BUFFERS}/{name}") for name in names.pop(BUFFERS)}
    profiles = [(images, kind) for images in found for kind in names]
    ends = np.array([images for images, _ in profiles], dtype=float)
    gammas = np.array([gamma_of(float(kind)) for _, kind in profiles])
    gram = overlap(ends[:, None], gammas[:, None], ends, gammas)
    wanted, norm = overlap(ends, gammas, end, gamma), overlap(end, gamma, end, gamma)
    coefficients = np.linalg.lstsq(gram, wanted, rcond=None)[0]
    residual = norm - 2 * coefficients @ wanted + coefficients @ gram @ coefficients
    for (images, kind), coefficient in zip(profiles, coefficients.tolist(), strict=True):
        with safe_open(found[images], "pt") as file:
            for name in names[kind]:
                value = file.get_tensor(f"{kind}/{name}").double() * coefficient
                state[name] = state[name] + value if name in state else value
    return state, math.sqrt(max(residual, 0) / norm)
