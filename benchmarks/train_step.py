"""Images a second of the whole training step against a straightforward implementation of it, in turn in one process.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --preset smoke --profile
    python benchmarks/train_step.py --preset imagenet --alone --precision bf16 --batch-size 32

A measurement is `train.r1_interval` steps, so that R1 counts as often as it comes: generator and discriminator phase,
R1, optimizers and averages, without reading data. Both trainers start from the same weights, and their first losses are
compared before anything is timed. Appends one row with device, versions and commit to
benchmarks/results/train_step.jsonl; with `--alone` on a GPU also the peak of its memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from measuring import RESULTS, append_row, interleaved, require_gpu, seconds
from naive_step import make_naive

from threedgp.commands.preset import preset_values
from threedgp.config import Config, parse_config
from threedgp.data.loader import Batch
from threedgp.models.initialization import initial_networks
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.training.counting import count_step
from threedgp.training.devices import fitting_piece
from threedgp.training.step import Trainer

CLASSES, FEATURES = 8, 1280
"""Number of classes of the data, and width of the features that are distilled."""
LONG_GAP = 20.0
"""Microseconds between two kernels after which the GPU has waited for the host."""
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
    events = [one for one in recorded.events() if one.device_type.name.lower() == device]
    busy, gaps = busy_and_gaps([(one.time_range.start, one.time_range.end) for one in events])  # microseconds
    per_step = [
        {"name": one.key, "ms": getattr(one, attribute) / 1e3 / steps, "calls": one.count / steps} for one in largest
    ]
    numbers = {
        "step_ms": took / steps * 1e3,
        "busy_ms": busy / steps / 1e3,
        "gaps_ms": sum(gaps) / steps / 1e3,
        "long_gaps": sum(gap > LONG_GAP for gap in gaps) / steps,
        "longest_gap_ms": gaps[0] / 1e3 if gaps else 0.0,
        "launches": sum(one.count for one in kernels) / steps,
        "largest": per_step,
    }
    return means.table(sort_by=attribute, row_limit=20), numbers


def busy_and_gaps(intervals: list[tuple[float, float]]) -> tuple[float, list[float]]:
    """Time that the union of intervals `(start, end)` covers, and the gaps between them, the longest first."""
    busy, gaps, end = 0.0, [], None
    for first, last in sorted(intervals):
        if end is not None and first > end:
            gaps.append(first - end)
        start = first if end is None else max(first, end)
        busy += max(last - start, 0.0)
        end = last if end is None else max(last, end)
    return busy, sorted(gaps, reverse=True)


def with_train(config: Config, **changes: object) -> Config:
    """The same settings with other ones in section `train`."""
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def largest_batch(config: Config, memory: int) -> int:
    """Largest batch of which the counted memory of a step fits into `memory` bytes."""
    group = config.model.discriminator.minibatch_std_group
    counted = count_step(with_train(config, batch_size=group), num_classes=CLASSES, num_features=FEATURES)
    return max(fitting_piece(counted, memory, group, group), group)


def write(options: argparse.Namespace, config: Config, row: dict[str, object]) -> None:
    """Append a row with what was measured, and where."""
    train = config.train
    what = {"preset": options.preset, "precision": options.precision, "compile": train.compile}
    what |= {"recompute": config.model.recompute, "memory": options.memory, "search": options.search}
    what |= {"batch_size": train.batch_size}
    append_row(options.results, what | row, options.device)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="toy", help="scale, by the name of a preset")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"), help="of ours")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each")
    parser.add_argument("--batch-size", help="another one than the preset's, or `largest`: what fits into the GPU")
    parser.add_argument("--compile", action="store_true", help="ours with train.compile")
    parser.add_argument("--recompute", action="store_true", help="ours with model.recompute")
    parser.add_argument("--search", action="store_true", help="cuDNN tries its convolutions (cudnn.benchmark)")
    parser.add_argument("--memory", type=float, help="GB of the GPU that may be used, as if it had no more")
    parser.add_argument("--alone", action="store_true", help="only ours; also for presets with density noise")
    parser.add_argument("--profile", action="store_true", help="find where our time goes instead")
    parser.add_argument("--results", type=Path, default=RESULTS / "train_step.jsonl")
    options = parser.parse_args()
    require_gpu(parser, options.device)
    keep_freed_memory()
    torch.backends.cudnn.benchmark = options.search
    if options.memory and options.device == "cuda":
        torch.cuda.set_per_process_memory_fraction(options.memory * 1e9 / torch.cuda.mem_get_info()[1])

    values = preset_values(options.preset)
    values.setdefault("model", {})["recompute"] = options.recompute
    if options.batch_size not in (None, "largest"):
        values["train"]["batch_size"] = int(options.batch_size)
    config = parse_config(values)
    if options.batch_size == "largest" and options.device == "cuda":
        memory = torch.cuda.mem_get_info()[0]
        config = with_train(config, batch_size=largest_batch(with_train(config, precision=options.precision), memory))
    batch, device = random_batch(config), torch.device(options.device)
    our_config = with_train(config, precision=options.precision, compile=options.compile)
    ours = make_trainer(our_config, device)
    if options.profile:
        text, numbers = profile(ours, batch, config.train.r1_interval)
        print(text)
        write(options, our_config, {"profile": numbers})
        return
    naive = None if options.alone else make_naive(make_trainer(config, device))
    if naive:
        compare(ours if our_config == config else make_trainer(config, device), naive, batch)
    steps = config.train.r1_interval

    def period(trainer: Trainer) -> None:
        for _ in range(steps):
            trainer.step(batch)

    works = {"ours": lambda: period(ours)}
    if naive:
        works["naive"] = lambda: period(naive)
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
    write(options, our_config, row)
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
