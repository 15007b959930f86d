"""Images a second of the whole training step against a straightforward implementation of it, in turn in one process.

    PYTHONPATH=. python benchmarks/train_step.py
    PYTHONPATH=. python benchmarks/train_step.py --preset smoke --profile
    PYTHONPATH=. python benchmarks/train_step.py --preset imagenet --alone --precision bf16 --batch-size 32

A measurement is `train.r1_interval` steps, so that R1 counts as often as it comes: generator and discriminator phase,
R1, optimizers and averages, without reading data. Both trainers start from the same weights, and their first losses are
compared before anything is timed. Appends one row with device, versions and commit to
benchmarks/results/train_step.jsonl; with `--alone` on a GPU also the peak of its memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from measuring import environment, interleaved, require_gpu, seconds
from naive_step import make_naive

from threedgp.commands.preset import preset_values
from threedgp.config import Config, parse_config
from threedgp.data.loader import Batch
from threedgp.models.initialization import initial_networks
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.training.step import Trainer

RESULTS = Path(__file__).parent / "results" / "train_step.jsonl"
CLASSES, FEATURES = 8, 1280
"""Number of classes of the data, and width of the features that are distilled."""
TOLERANCE = 1e-3
"""Relative, between losses of the two implementations in float32."""


def random_batch(config: Config) -> Batch:
    """A batch of noise; what is in it takes no other time than images."""
    count, size = config.train.batch_size, config.dataset.resolution
    random = torch.Generator().manual_seed(0)
    return Batch(
        image=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random),
        depth=torch.randint(-(2**15), 2**15, (count, 1, size, size), dtype=torch.int16, generator=random),
        embedding=torch.randn(count, FEATURES, generator=random),
        label=torch.randint(0, CLASSES, (count,), generator=random),
        index=torch.arange(count),
    )


def make_trainer(config: Config, device: torch.device) -> Trainer:
    """At the start of a run."""
    return Trainer(config, initial_networks(config, CLASSES, [1 / CLASSES] * CLASSES, FEATURES), device)


def compare(ours: Trainer, naive: Trainer, batch: Batch) -> None:
    """One step of each; ends the program where their losses differ."""
    first, second = ours.step(batch), naive.step(batch)
    for name in ("generator/loss", "discriminator/loss", "discriminator/r1"):
        if name in first and not torch.isclose(first[name], second[name], rtol=TOLERANCE):
            sys.exit(f"the two steps differ: {name} is {first[name]:.6g} and {second[name]:.6g}")


def profile(trainer: Trainer, batch: Batch, steps: int) -> tuple[str, dict[str, object]]:
    """Where the time of `steps` steps goes, by operator: a table, and numbers a step."""
    trainer.step(batch)  # compiles kernels
    device = trainer.device.type

    def work() -> None:
        for _ in range(steps):
            trainer.step(batch)

    with torch.profiler.profile() as recorded:
        took = seconds(work, device)
    means = recorded.key_averages()
    kernels = [one for one in means if one.device_type.name.lower() == device]
    attribute = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    largest = sorted(kernels, key=lambda one: -getattr(one, attribute))[:10]
    busy = sum(getattr(one, attribute) for one in kernels) / 1e3
    per_step = [
        {"name": one.key, "ms": getattr(one, attribute) / 1e3 / steps, "calls": one.count / steps} for one in largest
    ]
    numbers = {
        "step_ms": took / steps * 1e3,
        "busy_ms": busy / steps,
        "gaps_ms": took / steps * 1e3 - busy / steps,
        "launches": sum(one.count for one in kernels) / steps,
        "largest": per_step,
    }
    return means.table(sort_by=attribute, row_limit=20), numbers


def with_precision(config: Config, precision: str) -> Config:
    """The same settings with another precision of training."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def write(options: argparse.Namespace, config: Config, row: dict[str, object]) -> None:
    """Append a row with what was measured, and where."""
    what = {"preset": options.preset, "precision": options.precision, "batch_size": config.train.batch_size}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as results:
        results.write(json.dumps({**what, **row, **environment(options.device)}) + "\n")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="toy", help="scale, by the name of a preset")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"), help="of ours")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each")
    parser.add_argument("--batch-size", type=int, help="another one than the preset's")
    parser.add_argument("--alone", action="store_true", help="only ours; also for presets with density noise")
    parser.add_argument("--profile", action="store_true", help="find where our time goes instead")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    require_gpu(parser, options.device)
    keep_freed_memory()

    values = preset_values(options.preset)
    if options.batch_size:
        values["train"]["batch_size"] = options.batch_size
    config = parse_config(values)
    batch, device = random_batch(config), torch.device(options.device)
    if options.profile and options.precision != "fp32":
        config = with_precision(config, options.precision)
    precise = make_trainer(config, device)
    if options.profile:
        text, numbers = profile(precise, batch, config.train.r1_interval)
        print(text)
        write(options, config, {"profile": numbers})
        return
    naive = None if options.alone else make_naive(make_trainer(config, device))
    if naive:
        compare(precise, naive, batch)
    ours = precise if options.precision == "fp32" else make_trainer(with_precision(config, options.precision), device)
    steps = config.train.r1_interval

    def period(trainer: Trainer) -> None:
        for _ in range(steps):
            trainer.step(batch)

    works = {"ours": lambda: period(ours)}
    if naive:
        works["naive"] = lambda: period(naive)
    else:
        del precise  # its memory is not to be counted
    times = interleaved(works, options.device, options.repeats, warmups=1)
    images = steps * config.train.batch_size
    rates = {name: images / (time["median_ms"] / 1e3) for name, time in times.items()}
    row = {
        "images_per_second": rates,
        "speedup": rates["ours"] / rates["naive"] if naive else None,
        "days": config.train.kimg * 1000 / rates["ours"] / 86400,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" and not naive else None,
        "steps": steps,
        **times,
    }
    write(options, config, row)
    for name, rate in row["images_per_second"].items():
        print(f"{name:>6}: {rate:.1f} images/s")
    print(
        f"{row['days']:.3g} days for {config.train.kimg:g} kimg"
        + (f", {row['peak_bytes']} bytes" if row["peak_bytes"] else "")
    )
    if naive:
        print(f"{row['speedup']:.2f} times as many")


if __name__ == "__main__":
    main()
