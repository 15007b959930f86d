"""Counted memory and work of a training step against PyTorch's profiler and arithmetic."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from threedgp.commands.preset import preset_values
from threedgp.config import Config, parse_config
from threedgp.data.loader import Batch
from threedgp.models.initialization import initial_networks
from threedgp.render import Decoder, RayRandomness, RaySettings, render_rays
from threedgp.render.backends import assume
from threedgp.render.native import compositing
from threedgp.training.counting import Operation, _Counter, count_step
from threedgp.training.step import Trainer

CLASSES, FEATURES = 8, 32


def toy(root: Path, **train: object) -> Config:
    values = preset_values("toy", root / "presets")
    values["train"] |= train
    return parse_config(values)


def batch(config: Config) -> Batch:
    count, size = config.train.batch_size, config.dataset.resolution
    return Batch(
        image=torch.zeros(count, 3, size, size, dtype=torch.uint8),
        depth=torch.zeros(count, 1, size, size, dtype=torch.int16),
        embedding=torch.zeros(count, FEATURES),
        label=torch.zeros(count, dtype=torch.int64),
        index=torch.arange(count),
    )


def test_memory_is_what_the_profiler_sees(root: Path) -> None:
    """The profiler records the allocations of real tensors on the CPU."""
    config = toy(root, batch_size=16)
    backend = "torch" if compositing.unavailable_reason() else "native"
    trainer = Trainer(config, initial_networks(config, CLASSES, [1 / CLASSES] * CLASSES, FEATURES), torch.device("cpu"))
    trainer.step(batch(config))  # makes the moments of Adam
    trainer.images = 0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        trainer.step(batch(config))
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    counted = count_step(config, backend, CLASSES, FEATURES)
    assert counted.peak_bytes - counted.state_bytes == pytest.approx(peak, rel=0.1)
    tensors = [*trainer.generator.state_dict().values(), *trainer.discriminator.state_dict().values()]
    weights = sum(tensor.nbytes for tensor in tensors)
    average = sum(tensor.nbytes for tensor in trainer.average.state_dict().values())
    assert counted.state_bytes == pytest.approx(4 * weights + average, rel=0.02), "weights, gradients, two moments"
    posthoc = count_step(toy(root, batch_size=16, posthoc_ema={"snapshot_kimg": 1.0}), backend, CLASSES, FEATURES)
    parameters = sum(parameter.nbytes for parameter in trainer.average.parameters())
    assert posthoc.state_bytes - counted.state_bytes == pytest.approx(2 * parameters, rel=0.01), "two averages"


def test_settings_that_save_memory(root: Path) -> None:
    config = toy(root, batch_size=16)
    whole = count_step(config, num_classes=CLASSES)
    recomputed = config.model_copy(update={"model": config.model.model_copy(update={"recompute": True})})
    assert count_step(recomputed, num_classes=CLASSES).peak_bytes < 0.9 * whole.peak_bytes
    assert count_step(toy(root, batch_size=16, precision="bf16"), num_classes=CLASSES).peak_bytes < whole.peak_bytes
    compiled = count_step(toy(root, batch_size=16, compile=True), num_classes=CLASSES)
    assert compiled.peak_bytes == whole.peak_bytes, "counted as without compilation"


def test_work_memory_and_precision_follow_the_settings(root: Path) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.random.get_rng_state()
    small = count_step(toy(root, batch_size=8, precision="tf32"), num_classes=CLASSES)
    large = count_step(toy(root, batch_size=16), num_classes=CLASSES)
    accumulated = count_step(toy(root, batch_size=16, accumulation=2), num_classes=CLASSES)
    assert small.state_bytes == pytest.approx(large.state_bytes, rel=0.01)
    assert large.peak_bytes - large.state_bytes == pytest.approx(2 * (small.peak_bytes - small.state_bytes), rel=0.15)
    assert accumulated.peak_bytes == pytest.approx(small.peak_bytes, rel=0.15), "pieces of the same size"

    def flops(step: list[Operation], precision: str = "") -> int:
        return sum(one.flops for one in step if one.precision.startswith(precision))

    assert flops(small.first_step) > 1.3 * flops(small.usual_step), "the gradient penalty"
    assert flops(large.usual_step) == pytest.approx(2 * flops(small.usual_step), rel=0.15)
    assert flops(large.first_step, "tf32") == 0
    assert flops(small.first_step, "tf32") > flops(small.first_step, "fp32") > 0, "penalty and matrix products"
    assert torch.backends.cudnn.allow_tf32 == before[0], "the precision of the process stays"
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_flops_of_a_convolution_and_its_gradients() -> None:
    with torch.device("meta"), _Counter() as counter:
        layer, images = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.empty(2, 3, 16, 16, requires_grad=True)
        counter.operations.clear()
        layer(images).sum().backward()
    assert sum(one.flops for one in counter.operations) == 3 * 2 * (2 * 16 * 16) * (3 * 9) * 8


@pytest.mark.parametrize("fine", [0, 7])
def test_flops_of_the_field_and_its_gradients(fine: int) -> None:
    """Two layers for each sample of both passes; the backward pass evaluates them again."""
    rays, coarse, hidden, channels = (2, 6), 5, 16, 8
    with torch.device("meta"), assume("triton"), _Counter() as counter:
        leaf = functools.partial(torch.empty, requires_grad=True)
        planes = leaf(2, 3, 4, 4, channels)
        decoder = Decoder(leaf(hidden, channels), leaf(hidden), leaf(4, hidden), leaf(4))
        randomness = RayRandomness(torch.empty(*rays, coarse), torch.empty(*rays, fine))
        settings = RaySettings(near=0.75, far=1.25, half_width=0.5)
        rendered = render_rays(planes, decoder, leaf(*rays, 3), leaf(*rays, 3), randomness, settings)
        forward = sum(one.flops for one in counter.operations)
        counter.operations.clear()
        rendered.rgb.sum().backward()
        backward = sum(one.flops for one in counter.operations)
    assert forward == 2 * math.prod(rays) * (coarse + fine) * hidden * (channels + 4)
    assert backward == 3 * forward
