"""Time and peak memory of rendering compared with the naive composition, interleaved in one process.

    python benchmarks/render.py                      # published sizes on a GPU, 4 images of them on a CPU
    python benchmarks/render.py --workload toy
    python benchmarks/render.py --workload inference # whole images, with and without chunks and `stop_when_opaque`
    python benchmarks/render.py --compile --lightplane

With `--lightplane`, the first pass alone is also compared with Lightplane (Cao et al. 2024), if its package is
installed: it has no importance sampling, spaces samples equally and sums features over planes. This has never been run:
Lightplane is not on PyPI and needs a GPU, and a Triton of its time.

Appends one row with device, versions and commit to benchmarks/results/render.jsonl.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import RESULTS, append_row, copy_bandwidth, interleaved, matrix_rate, peak_bytes, require_gpu
from naive_render import naive_render
from torch import Tensor
from workloads import SETTINGS, WORKLOADS, Scene, Workload, make_scene

from threedgp.render import Composite, Decoder, RayRandomness, midpoint_randomness, render_rays, stratified_distances
from threedgp.render.field import PLANE_AXES


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def naive_runs(
    scene: Scene, work: Workload, compiled: bool = False
) -> tuple[Callable[[], object], Callable[[], object], list[Tensor]]:
    """Forward pass, forward + backward pass, and leaves of the baseline; its planes are `[B, 3, C, H, W]`."""
    render = torch.compile(naive_render) if compiled else naive_render
    planes = scene.image.unflatten(-1, (3, work.channels)).permute(0, 3, 4, 1, 2).float().contiguous().requires_grad_()
    decoder = Decoder(*(_leaf(w) for w in scene.decoder))
    origins, directions = _leaf(scene.origins), _leaf(scene.directions)
    leaves = [planes, *decoder, origins, directions]

    def run() -> tuple[Tensor, Tensor]:
        return render(planes, decoder, origins, directions, scene.randomness, SETTINGS)

    return *_forward_and_both(run, scene, leaves), leaves


def our_runs(
    scene: Scene, work: Workload, backend: str
) -> tuple[Callable[[], object], Callable[[], object], list[Tensor]]:
    """Forward pass, forward + backward pass, and leaves of `render_rays`."""
    image = _leaf(scene.image)
    decoder = Decoder(*(_leaf(w) for w in scene.decoder))
    origins, directions = _leaf(scene.origins), _leaf(scene.directions)
    leaves = [image, *decoder, origins, directions]

    def run() -> tuple[Tensor, Tensor]:
        planes = image.unflatten(-1, (3, work.channels)).permute(0, 3, 1, 2, 4)
        seen = render_rays(planes, decoder, origins, directions, scene.randomness, SETTINGS, backend=backend)
        return seen.rgb, seen.depth

    return *_forward_and_both(run, scene, leaves), leaves


def first_pass(scene: Scene) -> Scene:
    """The scene without importance sampling."""
    coarse, fine, *_ = scene.randomness
    return scene._replace(randomness=RayRandomness(coarse, fine[..., :0]))


def lightplane_runs(scene: Scene, work: Workload) -> tuple[Callable[[], object], Callable[[], object], list[Tensor]]:
    """Forward pass, forward + backward pass, and leaves of Lightplane, with a decoder of the same sizes: a layer, and
    one for density and one for color. Raises ImportError if it is not installed."""
    from lightplane import Rays, lightplane_renderer
    from lightplane.mlp_utils import init_decoder_params

    device, count = scene.image.device, work.side**2
    planes = scene.image.float().unflatten(-1, (3, work.channels)).unbind(3)  # [B, H, W, C]
    # Axes are z, y, x; a plane has size 1 along the axis that it does not depend on.
    grid = [_leaf(plane.unsqueeze(axis).contiguous()) for plane, axis in zip(planes, (1, 2, 3), strict=True)]
    layers = dict(n_layers_trunk=1, n_layers_opacity=1, n_layers_color=1)
    decoder = init_decoder_params(device, **layers, input_chn=work.channels, hidden_chn=work.hidden, color_chn=3)
    decoder.mlp_params = _leaf(decoder.mlp_params)
    origins, directions = (_leaf(x.flatten(0, 1) / SETTINGS.half_width) for x in (scene.origins, scene.directions))
    rows = len(origins)
    rays = Rays(
        directions=directions,
        origins=origins,
        grid_idx=torch.arange(work.images, device=device).repeat_interleave(count),
        near=torch.full((rows,), SETTINGS.near, device=device),
        far=torch.full((rows,), SETTINGS.far, device=device),
        encoding=torch.zeros(rows, work.hidden, device=device),
    )

    def run() -> tuple[Tensor, Tensor]:
        depth, _, rgb = lightplane_renderer(rays, grid, decoder, num_samples=work.coarse, gain=1.0)
        return rgb.unflatten(0, (work.images, count)), depth.unflatten(0, (work.images, count))

    leaves = [*grid, decoder.mlp_params, origins, directions]
    return *_forward_and_both(run, scene, leaves), leaves


def _forward_and_both(
    run: Callable[[], tuple[Tensor, Tensor]], scene: Scene, leaves: list[Tensor]
) -> tuple[Callable[[], object], Callable[[], object]]:
    @torch.no_grad()
    def forward() -> None:
        run()

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(run(), (scene.grad_rgb, scene.grad_depth))

    return forward, both


def _row_indices(scene: Scene, work: Workload) -> Tensor:
    """Rows of the texels that the coarse pass reads, int32 `[B R S * 12]`."""
    distances = stratified_distances(scene.randomness.coarse, SETTINGS.near, SETTINGS.far)
    points = scene.origins[:, :, None] + distances[..., None] * scene.directions[:, :, None]
    coordinates = points / SETTINGS.half_width
    image = torch.arange(work.images, device=points.device)[:, None, None, None, None] * work.plane**2
    rows = []
    lower = ((coordinates + 1) * ((work.plane - 1) / 2)).floor().long()
    neighbors = torch.stack([lower, lower + 1], dim=-1).clamp(0, work.plane - 1)  # [B, R, S, 3, 2]
    for plane, (across, up) in enumerate(PLANE_AXES):
        column, row = neighbors[..., across, :], neighbors[..., up, :]
        at = image + row[..., :, None] * work.plane + column[..., None, :]
        rows.append((at * 3 + plane).flatten(3).int())
    return torch.stack(rows, dim=3).flatten()


def limits(scene: Scene, work: Workload) -> dict[str, float]:
    """Rates of the device, and lower bounds in ms; on a GPU also the time to gather all texels and to add to all of
    them, in both passes."""
    table = scene.image.float().reshape(-1, work.channels).clone()
    device = table.device.type
    bandwidth, rate = copy_bandwidth(device), matrix_rate(device)
    found = {
        "copy_tb_s": bandwidth / 1e12,
        "gathered_bytes_over_copy_ms": work.samples * 12 * work.channels * 4 / bandwidth * 1e3,
        "zero_gradient_ms": table.nbytes / bandwidth * 2e3,
        "matrix_tflop_s": rate / 1e12,
        "forward_arithmetic_ms": work.samples * 2 * work.hidden * (work.channels + 4) / rate * 1e3,
    }
    if device == "cuda":
        from chip_limits import row_times  # imports Triton

        gather, scatter = row_times(table, _row_indices(scene, work))
        passes = (work.coarse + work.fine) / work.coarse
        found |= {"gather_ms": gather * passes * 1e3, "scatter_ms": scatter * passes * 1e3}
    return found


def achieved(work: Workload, times: dict[str, dict[str, float]], itemsize: int) -> dict[str, float]:
    """Rates of the fastest run, from the arithmetic and the texels that the renderer cannot do without.

    A sample takes 2 C H + 8 H operations in the decoder and 72 C in the interpolation. The backward pass does the same
    again, and its gradients take twice as much. Texels are read in each pass, and their gradients added in float32.
    """
    flop = work.samples * (2 * work.channels * work.hidden + 8 * work.hidden + 72 * work.channels)
    texels = work.samples * 12 * work.channels
    forward, both = times["forward"]["median_ms"] / 1e3, times["both"]["median_ms"] / 1e3
    return {
        "forward_tflop_s": flop / forward / 1e12,
        "both_tflop_s": 4 * flop / both / 1e12,
        "forward_tb_s": texels * itemsize / forward / 1e12,
        "both_tb_s": texels * (2 * itemsize + 4) / both / 1e12,
    }


def bound(row: dict[str, dict[str, float]], name: str) -> dict[str, str]:
    """What the times of a backend are close to: the largest lower bound, and the share of the time that it explains."""
    limit = row["limits"]
    lower = {"gathering texels": limit["gather_ms"], "arithmetic": limit["forward_arithmetic_ms"]}
    backward = {
        "gathering and adding": 2 * limit["gather_ms"] + limit["scatter_ms"] + limit["zero_gradient_ms"],
        "arithmetic": 4 * limit["forward_arithmetic_ms"],
    }
    made = {}
    for kind, bounds in (("forward", lower), ("both", backward)):
        what = max(bounds, key=bounds.get)
        made[kind] = f"{what}: {bounds[what] / row[name][kind]['median_ms']:.0%} of the time"
    return made


def measure(
    work: Workload,
    device: str,
    backends: list[str],
    dtype: torch.dtype,
    repeats: int,
    *,
    compiled: bool = False,
    lightplane: bool = False,
) -> dict[str, object]:
    """Times, peak memory and ratios of one workload."""
    scene = make_scene(work, device, dtype)
    runs = {"naive": naive_runs(scene, work)}
    if compiled:
        runs["naive_compiled"] = naive_runs(scene, work, compiled=True)
    runs |= {name: our_runs(scene, work, name) for name in backends}
    row: dict[str, object] = {}
    if lightplane:
        coarse = first_pass(scene)
        try:
            runs["lightplane_first_pass"] = lightplane_runs(coarse, work)
            runs |= {f"{name}_first_pass": our_runs(coarse, work, name) for name in backends}
        except ImportError as error:
            row["lightplane"] = f"not compared: {error}"
    peaks: dict[str, dict[str, float]] = {}
    for name, (forward, both, leaves) in runs.items():
        forward(), both()
        for leaf in leaves:
            leaf.grad = None
        gradients = sum(leaf.nbytes for leaf in leaves)
        peaks[name] = {
            "forward_peak_mb": peak_bytes(forward, device) / 1e6,
            "both_peak_mb": (peak_bytes(both, device) - gradients) / 1e6,
        }
        for leaf in leaves:
            leaf.grad = None
    warmups = 3 if device == "cuda" else 1
    forward_times = interleaved({name: run[0] for name, run in runs.items()}, device, repeats, warmups)
    both_times = interleaved({name: run[1] for name, run in runs.items()}, device, repeats, warmups)
    for name in runs:
        row[name] = {"forward": forward_times[name], "both": both_times[name], **peaks[name]}
    for name in backends:
        row[f"{name}_ratios"] = {
            "forward": forward_times["naive"]["median_ms"] / forward_times[name]["median_ms"],
            "both": both_times["naive"]["median_ms"] / both_times[name]["median_ms"],
            "min_forward": forward_times["naive"]["min_ms"] / forward_times[name]["min_ms"],
            "min_both": both_times["naive"]["min_ms"] / both_times[name]["min_ms"],
            "both_peak": peaks["naive"]["both_peak_mb"] / max(peaks[name]["both_peak_mb"], 1e-3),
        }
    row["limits"] = limits(scene, work)
    for name in runs:
        if not name.endswith("_first_pass"):
            itemsize = 4 if name.startswith("naive") else scene.image.element_size()
            row[f"{name}_rates"] = achieved(work, row[name], itemsize)
    if device == "cuda":
        row["bound"] = {name: bound(row, name) for name in backends}
    return row


def measure_inference(work: Workload, device: str, repeats: int, density: float, chunk: int) -> dict[str, object]:
    """Times and peak memory of whole images on the training path (all rays at once, with gradients) and in chunks.

    `density` is added to the raw density of random scenes, so that rays become opaque as they do in trained scenes.
    """
    scene = make_scene(work, device, torch.float32, density)
    planes = scene.image.unflatten(-1, (3, work.channels)).permute(0, 3, 1, 2, 4)
    numbers = midpoint_randomness(work.images, work.side**2, work.coarse, work.fine, scene.origins)
    rays = (planes, scene.decoder, scene.origins, scene.directions, numbers, SETTINGS)

    @torch.no_grad()
    def image(stop: bool) -> Composite:
        return render_rays(*rays, chunk=chunk, stop_when_opaque=stop)

    def training() -> Composite:
        return render_rays(planes.detach().requires_grad_(), *rays[1:])

    runs = {"training path": training, "chunks": lambda: image(False), "chunks, stopping": lambda: image(True)}
    difference = (image(False).rgb - image(True).rgb).abs().max().item()
    times = interleaved(runs, device, repeats, warmups=1)
    measured = {name: {**times[name], "peak_mb": peak_bytes(run, device) / 1e6} for name, run in runs.items()}
    return {"density": density, "chunk": chunk, "max_difference_of_stopping": difference, **measured}


def main() -> None:
    """Measure, print and append to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, choices=["cpu", "cuda"])
    parser.add_argument("--workload", choices=WORKLOADS, help="default: published (CPU: published-4)")
    parser.add_argument("--backend", nargs="+", help="default: triton (CPU: native)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the planes")
    parser.add_argument("--repeats", type=int, help="default: 20 (CPU: 5)")
    parser.add_argument("--compile", action="store_true", help="also the naive composition under torch.compile")
    parser.add_argument("--lightplane", action="store_true", help="also Lightplane's first pass, if it is installed")
    parser.add_argument("--density", type=float, default=200.0, help="inference: added to raw density")
    parser.add_argument("--chunk", type=int, default=1 << 14, help="inference: rays of a chunk")
    parser.add_argument("--note", help="stored with the results, such as the load of the machine")
    parser.add_argument("--results", type=Path, default=RESULTS / "render.jsonl")
    options = parser.parse_args()
    require_gpu(parser, options.device)
    on_gpu = options.device == "cuda"
    name = options.workload or ("published" if on_gpu else "published-4")
    backends = options.backend or (["triton"] if on_gpu else ["native"])
    repeats = options.repeats or (20 if on_gpu else 5)
    torch.backends.cuda.matmul.allow_tf32 = True  # the baseline too: its matrix products are then as fast as ours
    work, dtype = WORKLOADS[name], getattr(torch, options.dtype)
    row = {"workload": name, **work._asdict(), "dtype": options.dtype, "note": options.note}
    if name == "inference":
        row |= measure_inference(work, options.device, repeats, options.density, options.chunk)
    else:
        others = {"compiled": options.compile, "lightplane": options.lightplane}
        row |= measure(work, options.device, backends, dtype, repeats, **others)
    print(json.dumps(row, indent=1))
    append_row(options.results, row, options.device)


if __name__ == "__main__":
    main()
