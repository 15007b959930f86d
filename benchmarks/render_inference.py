"""Time and memory of rendering images: 256x256 rays, 64 + 64 samples, in chunks, with and without `stop_when_opaque`.

    python benchmarks/render_inference.py [--density 200]

Compared with the training path (all rays at once, with gradients). Scenes are random; `--density` is added to raw
density, so that rays become opaque as they do in trained scenes. Appends one row to
benchmarks/results/render.jsonl.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from measuring import RESULTS, append_row, interleaved, peak_bytes, require_gpu
from workloads import SETTINGS, WORKLOADS, make_scene

from threedgp.render import Composite, midpoint_randomness, render_rays


def main() -> None:
    """Measure, print and append to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--density", type=float, default=200.0)
    parser.add_argument("--chunk", type=int, default=1 << 14, help="rays")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS / "render.jsonl")
    options = parser.parse_args()
    require_gpu(parser, options.device)
    work = WORKLOADS["inference"]
    scene = make_scene(work, options.device, torch.float32, options.density)
    planes = scene.image.unflatten(-1, (3, work.channels)).permute(0, 3, 1, 2, 4)
    numbers = midpoint_randomness(work.images, work.side**2, work.coarse, work.fine, scene.origins)
    rays = (planes, scene.decoder, scene.origins, scene.directions, numbers, SETTINGS)

    @torch.no_grad()
    def image(stop: bool) -> Composite:
        return render_rays(*rays, chunk=options.chunk, stop_when_opaque=stop)

    def training() -> Composite:
        return render_rays(planes.detach().requires_grad_(), *rays[1:])

    runs = {"training path": training, "chunks": lambda: image(False), "chunks, stopping": lambda: image(True)}
    whole, stopped = image(False), image(True)
    row: dict[str, object] = {
        "workload": "inference",
        **work._asdict(),
        "density": options.density,
        "chunk": options.chunk,
        "max_difference_of_stopping": (whole.rgb - stopped.rgb).abs().max().item(),
    }
    times = interleaved(runs, options.device, options.repeats, warmups=1)
    for name, run in runs.items():
        row[name] = {**times[name], "peak_mb": peak_bytes(run, options.device) / 1e6}
    print(json.dumps(row, indent=1))
    append_row(options.results, row, options.device)


if __name__ == "__main__":
    main()
