"""``threedgp doctor``: what this machine has and lacks for the settings in params.yaml."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from threedgp.commands.dvc_files import ASIDE, REPAIR, damaged_files, repair
from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.commands.requirements import (
    INSTALL,
    LITE0_PACKAGE,
    RESULTS_BYTES,
    Weights,
    disk_space,
    images_problem,
    missing_package,
    required_weights,
    token_problem,
)
from threedgp.commands.scratch import SCRATCH, remove_older, scratch_bytes
from threedgp.config import Config, load_config
from threedgp.data.source import get_source
from threedgp.fetch.hub import HUB
from threedgp.fetch.weights import kind_of
from threedgp.runtime.addresses import expanded, mirror_problem, shown
from threedgp.runtime.progress import amount

MIN_SHOWN_BYTES = 2**30 / 10
"""Stages with smaller outputs are not listed."""


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    name: str
    found: str
    advice: str = ""
    """What to do about a problem; empty if there is none."""
    required: bool = True
    """Whether the pipeline cannot run without it."""

    @property
    def mark(self) -> str:
        """How the line begins."""
        if not self.advice:
            return "[green]ok[/]"
        return "[red]missing[/]" if self.required else "[yellow]optional[/]"


def doctor(
    params: ParamsOption = PARAMS,
    fix: Annotated[
        bool, typer.Option("--repair", help="Only move files aside that DVC left damaged when it was killed.")
    ] = False,
    days: Annotated[
        float | None,
        typer.Option("--remove-scratch", metavar="DAYS", min=0, help="Only remove unfinished work older than DAYS."),
    ] = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Compare the renderer's kernels with PyTorch's operators again.")
    ] = False,
) -> None:
    """Show what this machine has and lacks for the settings in params.yaml, and what to do about it."""
    if fix:
        moved = ", ".join(map(str, repair()))
        print(f"{moved}: moved to {ASIDE}; run `dvc repro`." if moved else "No file of DVC is damaged.")
    if days is not None:
        freed = remove_older(days)
        print(f"{SCRATCH}: removed {_gib(freed)} that no run has touched for {days:g} days.")
    if fix or days is not None:
        return
    findings = examine(load_config(params), recheck)
    console = Console()
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(finding.mark, finding.name, finding.found)
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(f"{finding.name}: {finding.advice}", soft_wrap=True, highlight=False)
    if any(finding.required and finding.advice for finding in findings):
        raise typer.Exit(1)


def examine(config: Config, recheck: bool = False) -> list[Finding]:
    """Findings about everything that the pipeline uses; imports PyTorch.

    Args:
        recheck: compare the renderer's kernels with PyTorch's operators again, instead of remembering the verdict.
    """
    software = [Finding("Python", platform.python_version()), _package("PyTorch", "torch"), _package("DVC", "dvc")]
    damaged = (Finding(str(file), "damaged", REPAIR) for file in damaged_files())
    renderer = _renderer(config, recheck) if importlib.util.find_spec("torch") else []
    return [*software, *damaged, *_hardware(config), *renderer, _images(config), *_weights(config), _disk(config)]


def _package(name: str, package: str, required: bool = True) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", INSTALL, required)


def _hardware(config: Config) -> Iterator[Finding]:
    required = config.machine.device == "cuda"
    try:
        import torch
    except ImportError:
        yield Finding("CUDA GPU", "unknown without PyTorch", INSTALL, required)
    else:
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                device = torch.cuda.get_device_properties(index)
                yield Finding("CUDA GPU", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
            yield _package("Triton", "triton", required=False)
        else:
            advice = "not needed for training at up to 64 px, but at 128 px and above"
            if shutil.which("nvidia-smi"):
                advice = f"PyTorch {torch.__version__} does not find the GPU of this machine; install a matching driver"
            elif required:
                advice = "set machine.device to auto or cpu"
            yield Finding("CUDA GPU", "none", advice, required)
    cores = os.cpu_count() or 1
    yield Finding("CPU", f"{cores} cores", "" if cores >= 2 else "expect twice the time", required=False)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    advice = "" if memory >= 4 * 2**30 else "lower machine.workers and the batch sizes"
    yield Finding("Memory", _gib(memory), advice, required=False)


def _renderer(config: Config, recheck: bool) -> Iterator[Finding]:
    """Whether the fused kernels can be used and agree with PyTorch's operators, at the sizes of the settings."""
    import torch

    from threedgp.render import Decoder
    from threedgp.render.backends import field_backend
    from threedgp.render.verification import Case, compare, problem

    name, sizes = "Renderer", config.model.generator
    cuda = config.machine.device != "cpu" and torch.cuda.is_available()
    device, backend = ("cuda:0", "triton") if cuda else ("cpu", "native")
    dtype = "bfloat16" if config.train.precision == "bf16" else "float32"
    channels, hidden = sizes.plane_channels, sizes.decoder_hidden
    shapes = ((hidden, channels), (hidden,), (4, hidden), (4,))
    tensors = (torch.empty(1, 3, 1, 1, channels, dtype=getattr(torch, dtype)), *(torch.empty(s) for s in shapes))
    planes, *weights, distances = (tensor.to(device) for tensor in (*tensors, torch.empty(1, 1, 1)))
    try:
        field_backend(backend, planes, Decoder(*weights), distances)
    except ValueError as error:
        yield Finding(name, "PyTorch operators", f"fused kernels would be faster, but {error}", required=False)
        return
    cases = [Case(backend, "field", device, dtype, channels, hidden), Case(backend, "compositing", device)]
    if backend == "triton":
        cases.append(Case(backend, "filter", device, dtype))
    for case in cases:
        with warnings.catch_warnings(action="ignore"):
            found = compare(case) if recheck else problem(case)
        if found:
            advice = (
                f"{found}; PyTorch operators replace it, which is slower; `threedgp doctor --recheck` compares again"
            )
            yield Finding(f"{name}, {case.operator}", f"backend {backend} cannot be used", advice, required=False)
        else:
            yield Finding(f"{name}, {case.operator}", f"backend {backend} agrees with PyTorch's operators")


def _images(config: Config) -> Finding:
    """The images at `dataset.path`, or where they will be downloaded from."""
    data, name = config.dataset, f"Images ({config.dataset.source})"
    problem = images_problem(config)
    if problem:
        return Finding(name, "cannot be used", problem)
    source = get_source(data.source)
    if data.path is not None and source.is_address(data.path):
        return Finding(name, f"will be downloaded from {HUB}/datasets/{data.path}")
    if data.path is not None:
        contents = source.contents(expanded(data.path), data.subset)
        return Finding(name, data.path + (f" ({_size(contents.num_images, contents.num_bytes)})" if contents else ""))
    published = source.published.get(data.subset)
    if published is None:
        return Finding(name, f"{config.download.count} will be rendered by stage download")
    found = f"will be downloaded from {published.url} ({_size(published.num_images, published.num_bytes)})"
    if not published.gated:
        return Finding(name, found)
    import huggingface_hub

    if huggingface_hub.get_token():
        return Finding(name, f"{found}, with your token")
    if config.machine.mirror:
        return Finding(name, f"looked for in {shown(config.machine.mirror)} first, else {found}, but no token is set")
    return Finding(name, f"{found}, but no token is set", token_problem(config) or "")


def _weights(config: Config) -> Iterator[Finding]:
    """The weights of all networks, the packages that they need, and a mirror that does not exist."""
    problem = mirror_problem(config.machine.mirror)
    if problem:
        yield Finding("Mirror", "missing", problem)
    if "efficientnet_lite0" in (config.features.network, config.embed.network):
        yield _package("EfficientNet-Lite0", LITE0_PACKAGE)
    for weights in required_weights(config):
        if weights.estimator and weights.estimator.package:
            package, missing = weights.estimator.package.partition(".")[0], missing_package(weights.estimator)
            advice = f"run `{weights.estimator.install}`" if missing else ""
            yield Finding(f"Package {package}", "not installed" if missing else "installed", advice)
        yield _weights_of(weights, config.machine.mirror)


def _weights_of(weights: Weights, mirror: str | None) -> Finding:
    name, problem = f"Weights of {weights.network}", weights.problem()
    if problem:
        return Finding(name, "missing", problem)
    origin, license = weights.origin()
    if kind_of(origin) == "path":
        return Finding(name, origin)
    cached = weights.cached(origin)
    if cached is not None:
        return Finding(name, str(cached))
    url = shown(origin) if kind_of(origin) == "url" else f"{HUB}/{origin.partition(':')[0]}"
    mirrored = f"looked for in {shown(mirror)} first" if mirror else ""
    details = "; ".join(filter(None, (f"license: {license}" if license else "", mirrored)))
    return Finding(name, f"will be downloaded from {url}" + (f" ({details})" if details else ""))


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(".").free
    space = disk_space(config)
    if space is None:
        advice = "" if free >= RESULTS_BYTES else "free some space"
        return Finding("Disk", f"{_gib(free)} free; how much is needed is known after stage download", advice)
    sizes = [f"{stage} {_gib(size)}" for stage, size in space.outputs.items() if size >= MIN_SHOWN_BYTES]
    found = f"{_gib(free)} free, about {_gib(space.peak)} needed" + (f" ({', '.join(sizes)})" if sizes else "")
    found += ", and the downloaded files, whose size is unknown" if space.download_unknown else ""
    smaller = "select.keep_fraction or dataset.resolution"
    if config.dataset.source == "procedural":
        smaller = "download.count"
    advice = f"about {_gib(space.peak)} are needed; free some space, or lower {smaller} (docs/data.md, Disk)"
    scratch = scratch_bytes()
    found += f", {_gib(scratch)} in {SCRATCH}" if scratch >= MIN_SHOWN_BYTES else ""
    return Finding("Disk", found, "" if free >= space.peak else advice)


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _size(num_images: int | None, num_bytes: int | None) -> str:
    images = "" if num_images is None else f"{num_images:,} images"
    return ", ".join(filter(None, (images, amount(num_bytes) if num_bytes else "")))
