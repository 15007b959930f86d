"""A training step never waits for the device: on a GPU, the host runs ahead and keeps it busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from threedgp.commands.preset import preset_values
from threedgp.config import parse_config
from threedgp.data.loader import Batch, on_device
from threedgp.models import resample, sampler
from threedgp.models.initialization import initial_networks
from threedgp.render import backends
from threedgp.training.step import Trainer
from training.worlds import BEYOND, FOV_QUANTILES, merge

CLASSES, FEATURES = 8, 1280


@pytest.fixture(autouse=True)
def constants() -> Iterator[None]:
    """Constants that are kept must be real tensors, for the tests that follow."""
    yield
    resample._kernel.cache_clear()
    sampler._class_bounds.cache_clear()


def test_fake_tensors_refuse_to_be_read() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.rand(3).sum().item()


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
@pytest.mark.parametrize("changes", [{}, BEYOND], ids=["preset", "beyond the paper"])
@pytest.mark.parametrize("name", ["toy", "imagenet"])
def test_a_step_reads_no_value(name: str, changes: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step, with R1, on tensors without values, of which reading one is an error."""
    values = parse_config(preset_values(name, root / "presets")).model_dump(mode="json")
    merge(values, changes)
    config = parse_config(values)
    count, size = config.train.batch_size, config.dataset.resolution
    resample._kernel.cache_clear()
    sampler._class_bounds.cache_clear()
    monkeypatch.setattr(backends, "_agrees", lambda *case: True)
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)  # fake weights cannot be moved
    with FakeTensorMode(allow_non_fake_inputs=True):
        quantiles = FOV_QUANTILES[:1] * (1 + CLASSES)
        networks = initial_networks(config, CLASSES, [1 / CLASSES] * CLASSES, FEATURES, quantiles)
        trainer = Trainer(config, networks, torch.device("cpu"))
        batch = Batch(
            image=torch.zeros(count, 3, size, size, dtype=torch.uint8),
            depth=torch.zeros(count, 1, size, size, dtype=torch.int16),
            embedding=torch.zeros(count, FEATURES),
            label=torch.zeros(count, dtype=torch.int64),
            index=torch.arange(count),
        )
        stats = trainer.step(batch)
    assert "discriminator/r1" in stats
    assert ("generator/novel_view" in stats) == bool(changes)
    assert all(value.ndim == 0 for value in stats.values())


def test_batches_are_copied_from_pinned_memory_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    read, pinned, real = [], [], torch.Tensor.to

    def batches() -> Iterator[Batch]:
        for number in range(3):
            read.append(number)
            yield Batch(*(torch.full((2, number + 1), number) for _ in range(5)))

    def to(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert non_blocking and any(tensor is one for one in pinned)
        return real(tensor, device)

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(torch.Tensor, "to", to)
    seen = []
    for batch in on_device(batches(), torch.device("meta")):
        seen.append((batch.image.shape[1], batch.label.device.type, len(read)))
    assert seen == [(1, "meta", 2), (2, "meta", 3), (3, "meta", 3)]


def test_batches_for_the_cpu_are_the_loaders_own() -> None:
    made = [Batch(*(torch.zeros(1) for _ in range(5))) for _ in range(2)]
    assert list(on_device(iter(made), torch.device("cpu"))) == made
