"""Comparison of a fused backend with PyTorch's operators, before `backend="auto"` uses it.

A kernel can be wrong with a compiler or driver that has not been tested, and training would not notice wrong gradients.
The comparison takes a small problem with the sizes and the dtype in use. Its verdict is kept in the user's cache, by
device, versions and source of the kernels.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.runtime.atomic import write_json

TOLERANCES = {"native": 1e-4, "triton": 2e-2, "triton, bfloat16": 1e-1}
"""Relative errors. Kernels for GPUs round operands of products to ten bits (TF32) or to seven (bfloat16), and a leaky
ReLU whose input changes sign by that changes a gradient by more."""


class Case(NamedTuple):
    """A comparison: an operator with the sizes that its kernels are compiled for."""

    backend: str
    operator: str
    """`field`, which includes importance sampling, `compositing`, or `filter`."""
    device: str
    dtype: str = "float32"
    """Dtype of the planes, or of the activations that are filtered."""
    channels: int = 0
    hidden: int = 0


def cache_folder() -> Path:
    """Folder of files that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "threedgp")


@cache
def problem(case: Case) -> str | None:
    """The difference between the backend and PyTorch's operators, or why the backend fails; None if they agree.

    The first time in a process, a problem is also a warning.
    """
    try:
        found = json.loads(_file(case).read_text())["problem"]
    except (OSError, ValueError, KeyError, TypeError):  # not compared before, or not remembered
        found = compare(case)
    if found is not None:
        text = f"backend '{case.backend}' is not used on {case.device}, PyTorch operators replace it, which is slower"
        warnings.warn(f"{text}: {found}", RuntimeWarning, stacklevel=2)
    return found


def compare(case: Case) -> str | None:
    """As `problem`, but never from the cache, whose verdict it replaces, and without a warning."""
    try:
        with ThreadPoolExecutor(1) as pool:  # autocast, inference mode and modes of the caller have no effect there
            found_errors = pool.submit(errors, case).result()
    except (torch.OutOfMemoryError, MemoryError) as error:  # may not happen again
        return _in_one_line(error)
    except Exception as error:  # compilers raise errors of many types
        found = _in_one_line(error)
    else:
        low_precision = case.backend == "triton" and case.dtype == "bfloat16"
        tolerance = TOLERANCES["triton, bfloat16" if low_precision else case.backend]
        name, largest = max(found_errors.items(), key=lambda item: item[1])
        wrong = f"{name} differs by {largest:.2g}, at most {tolerance:g} is expected (relative)"
        found = wrong if largest > tolerance else None
    _remember(case, found)
    return found


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: " + (text if len(text) < 400 else f"{text[:200]} ... {text[-200:]}")


def errors(case: Case) -> dict[str, float]:
    """Relative error of each result and of each gradient, in comparison with PyTorch's operators in float64."""
    device = torch.device(case.device)
    compared = {"field": _field_errors, "compositing": _compositing_errors, "filter": _filter_errors}
    with torch.cuda.device(device if device.type == "cuda" else -1):
        return compared[case.operator](case)


BATCH, RAYS, SAMPLES, HEIGHT, WIDTH = 2, 8, 32, 9, 6
"""Sizes of the small problem; rays leave the planes at all sides."""


# The compared code imports this module, so these functions import it.


def _field_errors(case: Case) -> dict[str, float]:
    from threedgp.render.backends import engine
    from threedgp.render.decoder import Decoder
    from threedgp.render.field import Needs, Scene, field_reference
    from threedgp.render.sampling import fine_distances

    draw, channels, hidden = _Draws(case.device), case.channels, case.hidden
    image = draw.normal(BATCH, HEIGHT, WIDTH, 3 * channels).to(getattr(torch, case.dtype))
    planes = image.unflatten(-1, (3, channels)).permute(0, 3, 1, 2, 4)
    shapes = ((hidden, channels), (hidden,), (4, hidden), (4,))
    decoder = Decoder(*(draw.normal(*shape) / shape[-1] ** 0.5 for shape in shapes))
    origins, directions = draw.normal(BATCH, RAYS, 3) * 0.6, draw.normal(BATCH, RAYS, 3)
    distances = draw.uniform(BATCH, RAYS, SAMPLES).sort(dim=-1).values
    noise, weight = draw.normal(*distances.shape), draw.normal(*distances.shape, 4)
    u = draw.uniform(*distances.shape)

    code, scene = engine(case.backend, "field"), Scene(planes, decoder, origins, directions, 0.5, False)
    out = code.field_forward(scene, distances, noise)
    gradients = code.field_backward(scene, [distances], [weight], Needs(True, True, True))

    leaves = [x.double().requires_grad_() for x in (planes, *decoder, origins, directions)]
    exact = Scene(leaves[0], Decoder(*leaves[1:5]), leaves[5], leaves[6], 0.5, False)
    truth = field_reference(exact, distances.double(), noise.double())
    true_gradients = torch.autograd.grad(truth, leaves, weight.double())
    names = ("planes", *Decoder._fields, "origins", "directions")
    found = {"the field": _error(out, truth)}
    for name, gradient, true in zip(names, gradients, true_gradients, strict=True):
        found[f"the gradient of {name}"] = _error(gradient, true)
    samples = truth.detach()
    drawn = fine_distances(distances, samples.float(), u, 0.0, case.backend)
    found["importance sampling"] = _error(drawn, fine_distances(distances.double(), samples, u.double(), 0.0, "torch"))
    return found


def _compositing_errors(case: Case) -> dict[str, float]:
    from threedgp.render.backends import engine
    from threedgp.render.compositing import Composite, CompositeSettings, composite_reference

    draw, settings = _Draws(case.device), CompositeSettings()
    distances = [draw.uniform(BATCH, RAYS, SAMPLES).sort(dim=-1).values for _ in range(2)]
    samples = [draw.normal(BATCH, RAYS, SAMPLES, 4) * 2 for _ in range(2)]
    code = engine(case.backend, "compositing")
    seen = code.composite_forward(distances, samples, settings)
    leaves = [x.double().requires_grad_() for x in samples]
    truth = composite_reference(tuple(leaves), tuple(d.double() for d in distances), settings)
    weights = [draw.normal(*x.shape) for x in truth]
    gradients = code.composite_backward(distances, samples, tuple(weights), settings)
    true_gradients = torch.autograd.grad(truth, leaves, [w.double() for w in weights])
    found = {name: _error(a, t) for name, a, t in zip(Composite._fields, seen, truth, strict=True)}
    for k, (gradient, true) in enumerate(zip(gradients, true_gradients, strict=True)):
        found[f"the gradient of samples of set {k + 1}"] = _error(gradient, true)
    return found


def _filter_errors(case: Case) -> dict[str, float]:
    from threedgp.render.backends import engine

    x = _Draws(case.device).normal(BATCH, 3, 2 * HEIGHT, WIDTH).to(getattr(torch, case.dtype))
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64, device=x.device)
    kernel = (torch.outer(line, line) / 64).expand(3, 1, 4, 4)
    code, found = engine(case.backend, "filter"), {}
    for stride in (1, 2):
        for transposed, convolve in ((False, F.conv2d), (True, F.conv_transpose2d)):
            truth = convolve(x.double(), kernel, stride=stride, padding=1, groups=3)
            name = f"the {'transposed ' if transposed else ''}filter of stride {stride}"
            found[name] = _error(code.resample(x, transposed, 1.0, stride, 1), truth)
    return found


class _Draws:
    """Random tensors on a device; the same in every run, and no use of PyTorch's own generators."""

    def __init__(self, device: str) -> None:
        self.device, self.generator = device, torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator).to(self.device)


def _error(actual: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth; NaN is infinite."""
    value = ((actual.double() - truth).norm() / truth.norm().clamp(min=1e-30)).item()
    return value if value == value else float("inf")


def _file(case: Case) -> Path:
    """Where the verdict is kept; the name depends on everything that may change it."""
    sources = sorted(file for file in Path(__file__).parent.rglob("*") if file.suffix in (".py", ".cpp", ".h"))
    parts = [*map(str, case), torch.__version__, *_machine(case), *(file.read_text() for file in sources)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return cache_folder() / "verdicts" / f"{key[:20]}.json"


def _machine(case: Case) -> list[str]:
    """Hardware, driver and compiler of the kernels."""
    if case.backend == "native":
        from threedgp.render.native import building

        return [*building.FLAGS, str(building.compiler()), building.processor()]
    import triton

    driver = Path("/proc/driver/nvidia/version")
    version = driver.read_text() if driver.exists() else str(torch.version.cuda)
    return [triton.__version__, torch.cuda.get_device_name(case.device), version]


def _remember(case: Case, found: str | None) -> None:
    file = _file(case)
    if file.is_absolute():  # it is not if the user has no home folder
        with suppress(OSError):  # then every process compares
            write_json(file, {"problem": found, **case._asdict()})
