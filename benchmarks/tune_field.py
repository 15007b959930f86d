"""Times of the field's Triton kernels for several tiles, at the published size, to choose defaults for a GPU.

    python benchmarks/tune_field.py [--dtype bfloat16]

Prints a table; the defaults are in threedgp/render/triton/field.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from measuring import require_gpu, seconds
from workloads import SETTINGS, WORKLOADS, make_scene

from threedgp.render import stratified_distances
from threedgp.render.field import Needs, Scene
from threedgp.render.triton.field import Tile, field_backward, field_forward

FORWARD = [Tile(32, 2), Tile(32, 4), Tile(64, 2), Tile(64, 4), Tile(128, 4), Tile(128, 8), Tile(64, 4, registers=80)]
BACKWARD = [
    *(Tile(16, 4, 2), Tile(32, 8, 1), Tile(16, 4, 3, 168), Tile(16, 4, 4, 128), Tile(32, 8, 2, 128)),
    *(Tile(32, 4, 2), Tile(64, 8, 1), Tile(16, 8, 2, 128), Tile(16, 2, 4), Tile(64, 16, 1, 128)),
]


def main() -> None:
    """Compile in parallel, then time one kernel after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--workload", default="published", choices=WORKLOADS)
    parser.add_argument("--results", type=Path, help="file to append the times to")
    options = parser.parse_args()
    require_gpu(parser)
    work = WORKLOADS[options.workload]
    scene = make_scene(work, "cuda", getattr(torch, options.dtype))
    planes = scene.image.unflatten(-1, (3, work.channels)).permute(0, 3, 1, 2, 4)
    distances = stratified_distances(scene.randomness.coarse, SETTINGS.near, SETTINGS.far)
    gradient = torch.randn(*distances.shape, 4, device="cuda")
    inputs = Scene(planes, scene.decoder, scene.origins, scene.directions, SETTINGS.half_width, False)

    def forward(tile: Tile) -> object:
        return field_forward(inputs, distances, None, tile=tile)

    def backward(tile: Tile, needs: Needs) -> object:
        return field_backward(inputs, [distances], [gradient], needs, tile=tile)

    everything = Needs(True, True, True)
    partly = {
        "without planes": Needs(False, True, True),
        "planes alone": Needs(True, False, False),
        "without rays": Needs(True, True, False),
    }
    jobs = [("forward", tile, lambda t=tile: forward(t)) for tile in FORWARD]
    jobs += [("backward", tile, lambda t=tile: backward(t, everything)) for tile in BACKWARD]
    for name, needs in partly.items():
        jobs += [(name, tile, lambda t=tile, n=needs: backward(t, n)) for tile in BACKWARD[:2]]
    jobs += [("zeros", Tile(0, 0), lambda: torch.zeros_like(planes, dtype=torch.float32))]

    def attempt(job: tuple[str, Tile, object]) -> str | None:
        try:
            job[2]()
        except Exception as error:  # a tile that does not compile must not end the table
            return f"{type(error).__name__}: {str(error)[:100]}"
        return None

    with ThreadPoolExecutor(12) as pool:
        problems = list(pool.map(attempt, jobs))
    best: dict[str, tuple[float, Tile]] = {}
    for job, problem in zip(jobs, problems, strict=True):
        name, tile, run = job
        if problem:
            print(f"{name:15} {tile} {problem}", flush=True)
            continue
        run()
        times = [seconds(run, "cuda") for _ in range(7)]
        median = statistics.median(times) * 1e3
        print(f"{name:15} {tuple(tile)} {median:.3f} ms", flush=True)
        best[name] = min(best.get(name, (median, tile)), (median, tile))
        if options.results:
            row = {"kernel": name, "tile": tile._asdict(), "ms": median, "dtype": options.dtype, **work._asdict()}
            with options.results.open("a", encoding="utf-8") as results:
                results.write(json.dumps(row) + "\n")
    for name in ("forward", "backward"):
        print(f"# {name}, C {work.channels}, {options.dtype}, {torch.cuda.get_device_name()}: {best[name][0]:.3f} ms")
        print(f"return {best[name][1]}")


if __name__ == "__main__":
    main()
