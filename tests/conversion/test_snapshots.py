"""Published snapshots are read, and nothing in them is run."""

from __future__ import annotations

import collections
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from threedgp.conversion.snapshots import network_tensors, read_snapshot
from threedgp.errors import UserError


def _state(parameters: dict[str, torch.Tensor] | None = None, **modules: Any) -> dict[str, Any]:
    named = collections.OrderedDict((k, torch.nn.Parameter(v)) for k, v in (parameters or {}).items())
    return {
        "training": False, "_parameters": named, "_buffers": collections.OrderedDict(),
        "_modules": collections.OrderedDict(modules),
    }  # fmt: skip


def _write(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_networks_become_tensors_by_name(tmp_path: Path, published: Any) -> None:
    weight, half = torch.randn(3, 4), torch.randn(5).half()
    inner = published("Layer", _state({"weight": weight}))
    listed = torch.nn.ModuleList([torch.nn.Linear(2, 3)])
    state = _state({"scale": half}, fc0=inner, layers=listed)
    state["cfg"] = published.easy_dict(resolution=256, nested=published.easy_dict(kind="3dgp"))
    state["_buffers"]["w_avg"] = torch.arange(6.0).reshape(2, 3).t()
    state["scalar"] = np.float64(2.5)
    content = read_snapshot(_write(tmp_path / "a.pkl", {"G_ema": published("Generator", state), "D": None}))
    tensors = network_tensors(content["G_ema"])
    assert set(tensors) == {"scale", "w_avg", "fc0.weight", "layers.0.weight", "layers.0.bias"}
    assert torch.equal(tensors["fc0.weight"], weight)
    assert torch.equal(tensors["scale"], half)
    assert torch.equal(tensors["w_avg"], torch.arange(6.0).reshape(2, 3).t())
    assert torch.equal(tensors["layers.0.weight"], listed[0].weight)
    assert content["G_ema"]["state"]["cfg"] == {"resolution": 256, "nested": {"kind": "3dgp"}}
    assert content["G_ema"]["state"]["scalar"] == 2.5


class _Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {mark}",)),
        (eval, ("open({mark!r}, 'w')",)),
        (open, ("{mark}", "w")),
        (getattr, (os, "system")),
        (torch.load, ("{mark}",)),
        (np.load, ("{mark}",)),
        (torch.nn.init.zeros_, (torch.zeros(1),)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("nested", [False, True])
def test_calls_are_refused_and_not_made(
    tmp_path: Path, published: Any, function: Any, arguments: tuple[Any, ...], nested: bool
) -> None:
    mark = tmp_path / "mark"
    arguments = tuple(a.format(mark=str(mark)) if isinstance(a, str) else a for a in arguments)
    if arguments[0] is os:  # a module cannot be pickled; its name can
        function, arguments = __import__, ("os",)
    hostile: Any = _Call(function, *arguments)
    if nested:
        hostile = _Call(torch.storage._load_from_bytes, _legacy(hostile))
    path = _write(tmp_path / "hostile.pkl", {"G_ema": published("Generator", _state()), "stats": hostile})
    with pytest.raises(UserError, match=r"hostile.pkl: refused to read this as a snapshot"):
        read_snapshot(path)
    assert not mark.exists()


def _legacy(root: Any) -> bytes:
    """PyTorch's old format around any pickled object."""
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, root, []):
        pickle.dump(part, stream, protocol=2)
    return stream.getvalue()


def test_lies_about_sizes_are_refused(tmp_path: Path, published: Any) -> None:
    storage = torch.zeros(4)
    huge = _Call(torch._utils._rebuild_tensor_v2, storage.storage(), 0, (1 << 20,), (1,), False, {})
    path = _write(tmp_path / "a.pkl", {"G_ema": published("Generator", _state()), "x": huge})
    with pytest.raises(UserError, match="a tensor larger than its storage"):
        read_snapshot(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps({"G_ema": 3})])
def test_other_files_are_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pkl: "):
        read_snapshot(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl: no such file"):
        read_snapshot(tmp_path / "none.pkl")
