"""Operators that a training step starts on a GPU, by part of the step, and how often the host waits for the GPU.

    python benchmarks/launches.py --preset imagenet
    python benchmarks/launches.py --preset imagenet --precision bf16 --operators 15

No GPU is needed: the step runs on PyTorch's meta device. Each operator that writes a tensor is counted, views are not;
the backward pass of a convolution or a sort starts several kernels, so these are lower bounds. Copies are the operators
that only move or convert values; tensors on the meta device may lie otherwise in memory than on a GPU. Reading a value
is an error there, so a step that ends has never waited for the GPU.
Appends one row to benchmarks/results/launches.jsonl.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import RESULTS, append_row
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_step import CLASSES, FEATURES, with_train

from threedgp.commands.preset import preset_values
from threedgp.config import parse_config
from threedgp.models import sampler, triplane
from threedgp.render.backends import assume
from threedgp.runtime import counter_rng
from threedgp.training import draws
from threedgp.training import step as training_step
from threedgp.training.counting import FREE, META, meta_trainer, noise_batch
from threedgp.training.step import Trainer

COPIES = ("_to_copy", "clone", "copy_", "contiguous", "cat", "stack")
BACKWARD = "backward pass"


class Launches(TorchDispatchMode):
    """Context manager that counts operators by part of the step, which `inside` names."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Number of calls by phase, part and operator."""
        self.phase, self._parts = "rest", ["rest"]

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Count for `part`."""
        self._parts.append(part)
        try:
            yield
        finally:
            self._parts.pop()

    def add(self, part: str, operator: str) -> None:
        """Count one call."""
        self.counts[self.phase, part, operator] += 1

    def total_norm(self, tensors: list[Tensor]) -> Tensor:
        """`get_total_norm` as it runs on a GPU: all norms, and the norm of them."""
        for operator in ("_foreach_norm", "stack", "linalg_vector_norm"):
            self.add("gradient norm", operator)
        return tensors[0].new_zeros([])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        makes = any(x.untyped_storage()._cdata not in given for x in tree_leaves(out) if isinstance(x, Tensor))
        if (makes or func._schema.is_mutable) and name not in FREE:
            is_backward = torch._C._current_graph_task_id() != -1
            self.add(BACKWARD if is_backward else self._parts[-1], name)
        return out


def _counted(launches: Launches, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with launches.inside(part):
            return function(*args, **kwargs)

    return call


def _in_phase(launches: Launches, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before, launches.phase = launches.phase, phase
        try:
            return function(*args, **kwargs)
        finally:
            launches.phase = before

    return call


def count(trainer: Trainer, batch: Any) -> Counter[tuple[str, str, str]]:
    """Operators of one step by phase, part and name."""
    launches = Launches()
    generator, discriminator = trainer.generator, trainer.discriminator
    modules: dict[str, nn.Module | None] = {
        "mapping": generator.mapping,
        "backbone": generator.backbone,
        "cameras": generator.camera_generator,
        "depth adaptor": generator.depth_adaptor,
        "discriminator": discriminator,
    }
    functions = [
        ("random numbers", counter_rng, "random_bits"),
        *(("random numbers", module, name) for module in (draws, sampler) for name in ("uniform", "normal")),
        ("rays", triplane, "rays"),
        ("renderer", triplane, "render_rays"),
        ("real patches", trainer, "_reals"),
        ("blur", training_step, "blur"),
        ("gradient norm", trainer, "_update"),
        ("average", trainer._moving_average, "update"),
    ]
    phases = {"generator": "_generator_phase", "discriminator": "_discriminator_phase", "R1": "_gradient_penalty"}
    with ExitStack() as stack:
        for part, module in modules.items():
            if module is not None:
                stack.enter_context(patch.object(module, "forward", _counted(launches, part, module.forward)))
        for part, owner, name in functions:
            stack.enter_context(patch.object(owner, name, _counted(launches, part, getattr(owner, name))))
        for phase, name in phases.items():
            stack.enter_context(patch.object(trainer, name, _in_phase(launches, phase, getattr(trainer, name))))
        for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
            # One operator on a GPU; not available on the meta device, where Adam is one of many.
            stack.enter_context(patch.object(optimizer, "step", lambda: launches.add("optimizer", "_fused_adam_")))
        stack.enter_context(patch.object(torch.nn.utils, "get_total_norm", launches.total_norm))
        with launches:
            trainer.step(batch)
    return launches.counts


def table(counts: Counter[tuple[str, str, str]]) -> list[str]:
    """The counts as Markdown: a row for each part, a column for each phase, and in parentheses the copies."""
    phases = list(dict.fromkeys(phase for phase, _, _ in counts))
    lines = ["| part | " + " | ".join(phases) + " |", "|---" * (len(phases) + 1) + "|"]

    def cell(phase: str, part: str | None) -> str:
        chosen = [(name, n) for (p, q, name), n in counts.items() if p == phase and part in (None, q)]
        copies = sum(n for name, n in chosen if name in COPIES)
        return f"{sum(n for _, n in chosen)} ({copies})" if chosen else ""

    for part in [*dict.fromkeys(part for _, part, _ in counts), None]:
        lines.append(f"| {part or 'all'} | " + " | ".join(cell(phase, part) for phase in phases) + " |")
    return lines


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--operators", type=int, default=0, help="also print this many of the most frequent operators")
    parser.add_argument("--results", type=Path, default=RESULTS / "launches.jsonl")
    options = parser.parse_args()
    values = preset_values(options.preset)
    group = parse_config(values).model.discriminator.minibatch_std_group
    values.setdefault("train", {})["batch_size"] = group  # the counts do not depend on it
    config = with_train(parse_config(values), precision=options.precision)
    with assume("triton"):
        trainer, batch = meta_trainer(config, CLASSES, FEATURES), noise_batch(config, FEATURES, META)
        trainer.step(batch)  # filters and bounds of classes are kept
        trainer.images = 0
        counts = count(trainer, batch)
    print("\n".join(table(counts)))
    by_name: Counter[tuple[str, str]] = Counter()
    for (_, part, name), number in counts.items():
        by_name[part, name] += number
    for (part, name), number in by_name.most_common(options.operators):
        print(f"{number:6d} {name} ({part})")
    rows = [{"phase": p, "part": q, "operator": name, "calls": n} for (p, q, name), n in counts.items()]
    what = {"preset": options.preset, "precision": options.precision, "total": counts.total(), "counts": rows}
    append_row(options.results, what)


if __name__ == "__main__":
    main()
