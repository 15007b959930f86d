"""Checkpoints of LeReS in the published layout: all of them load, and nothing else does."""

from __future__ import annotations

import functools
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from threedgp.depth.estimators.leres import Encoder, Leres, load_leres
from threedgp.runtime.errors import UserError

COUNTER = "num_batches_tracked"


@functools.cache
def shapes(encoder: Encoder) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in Leres(encoder).state_dict().items()}


def value_of(name: str) -> float:
    return zlib.crc32(name.encode()) / 2**32


def published(encoder: Encoder = "resnet50") -> dict[str, Tensor]:
    """Weights that tell their name; a stride of 0 makes the files small."""
    return {
        name: torch.tensor(7) if name.endswith(COUNTER) else torch.tensor(value_of(name)).expand(shape)
        for name, shape in shapes(encoder).items()
    }


def save(place: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, place / "weights.pth")
    return place / "weights.pth"


def test_names_are_the_published_ones() -> None:
    names = shapes("resnext101_32x8d")
    for name, shape in {
        "encoder_modules.encoder.conv1.weight": (64, 3, 7, 7),
        "encoder_modules.encoder.layer3.22.conv2.weight": (1024, 32, 3, 3),
        "decoder_modules.conv.conv_branch.4.bias": (512,),
        "decoder_modules.conv1.weight": (256, 512, 3, 3),
        "decoder_modules.ffm2.ftb1.conv1.weight": (256, 1024, 3, 3),
        "decoder_modules.outconv.adapt_conv.3.weight": (1, 128, 3, 3),
    }.items():
        assert names[name] == shape


@pytest.mark.parametrize("encoder", ["resnet50", "resnext101_32x8d"])
@pytest.mark.parametrize("prefix", ["", "module.", "depth_model.", "module.depth_model.", "depth_model.module."])
def test_with_and_without_prefixes(encoder: Encoder, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in published(encoder).items()}
    more = {"shift_model": {"fc.weight": torch.ones(3)}, "focal_model": {}, "epoch": 3}  # of no use to us
    network = load_leres(save(tmp_path, {"depth_model": state, **more}))
    for name, value in network.state_dict().items():
        if not name.endswith(COUNTER):
            assert value.dtype == torch.float32 and value.device.type == "cpu"
            assert (value == torch.tensor(value_of(name))).all(), name


def test_without_the_key_around_it(tmp_path: Path) -> None:
    load_leres(save(tmp_path, {f"depth_model.{name}": value for name, value in published().items()}))


def test_without_counters_and_in_half_precision(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in published().items() if not name.endswith(COUNTER)}
    network = load_leres(save(tmp_path, {"depth_model": state}))
    assert all(value.dtype == torch.float32 for value in network.parameters())
    assert not any(value.is_meta for value in network.state_dict().values())


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("decoder_modules.conv1.bias"), 'Missing key.*"decoder_modules.conv1.bias"'),
        (lambda state: state.update({"module.head.weight": torch.ones(1)}), 'Unexpected key.*"head.weight"'),
        (
            lambda state: state.update({"decoder_modules.conv1.weight": torch.ones(256, 512, 1, 1)}),
            "size mismatch for decoder_modules.conv1.weight",
        ),
    ],
)
def test_every_key_is_accounted_for(change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path):
    state = published()
    change(state)
    with pytest.raises(UserError, match=message):
        load_leres(save(tmp_path, {"depth_model": state}))


@pytest.mark.parametrize(
    "checkpoint", [{"depth_model": [1, 2]}, {"state": 3}, torch.ones(3), {"depth_model": {"a": 1}}]
)
def test_something_else(checkpoint: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights.pth: not a checkpoint of LeReS"):
        load_leres(save(tmp_path, checkpoint))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, 2))])
def test_no_code_of_the_file_is_run(writer: Callable[[Any, Path], object], tmp_path: Path) -> None:
    file, trace = tmp_path / "weights.pth", tmp_path / "trace"
    writer({"depth_model": Malicious(trace)}, file)
    with pytest.raises(UserError, match=r"weights.pth: damaged, or not a file of weights only"):
        load_leres(file)
    assert not trace.exists()


def test_damaged_and_missing(tmp_path: Path) -> None:
    file = save(tmp_path, {"depth_model": published()})
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"weights.pth: damaged"):
        load_leres(file)
    with pytest.raises(UserError, match=r"none.pth: the weights of LeReS cannot be read \(No such file or directory\)"):
        load_leres(tmp_path / "none.pth")
