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

from limits import limits
from threedgp.conversion import models
from threedgp.conversion.models import convert_snapshot, convert_trusted
from threedgp.conversion.snapshots import Network, Plain, network_tensors, read_snapshot
from threedgp.runtime.errors import UserError


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
    assert content["G_ema"]["cfg"] == {"resolution": 256, "nested": {"kind": "3dgp"}}
    assert content["G_ema"]["scalar"] == 2.5


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
    state = _state()
    if nested:
        storage = _Call(torch.storage._load_from_bytes, _legacy(hostile))
        state["_parameters"]["x"] = _Call(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,))
        hostile = None
    path = _write(tmp_path / "hostile.pkl", {"G_ema": published("Generator", state), "stats": hostile})
    with pytest.raises(UserError, match=r"hostile.pkl: .*it wants [\w.]+, which is neither"):
        convert_trusted(path, tmp_path / "model")
    assert not mark.exists()


def _legacy(root: Any) -> bytes:
    """PyTorch's old format around any pickled object."""
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, root, []):
        pickle.dump(part, stream, protocol=2)
    return stream.getvalue()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_everything_that_a_published_file_holds_is_read(tmp_path: Path, published: Any, protocol: int) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.sum().backward()
    optimizer.step()
    network = published("Generator", _state({"weight": parameter.detach()}))
    labels = np.arange(6, dtype=np.int64).reshape(2, 3).T
    vis = published.easy_dict(grid_c=labels, grid_z=labels.astype(">f4"), empty=np.zeros((4, 0), np.float32))
    vis.camera = published.tensor_group(angles=torch.zeros(2, 3), fov=torch.zeros(2, 0))
    content = {
        "G": network, "D": published("Discriminator", _state()), "G_ema": network, "G_opt": optimizer,
        "D_opt": torch.optim.SGD([parameter]), "augment_pipe": published("AugmentPipe", _state()), "vis": vis,
        "pl_mean": torch.zeros([]), "stats": {"cur_nimg": np.int64(9), "cur_tick": 3, "augment_p": np.float32(0.5)},
        "training_set_kwargs": published.easy_dict(path="data", names={"a"}),
    }  # fmt: skip
    path = tmp_path / "all.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_snapshot(path)
    assert read["stats"] == {"cur_nimg": 9, "cur_tick": 3, "augment_p": 0.5}
    assert torch.equal(network_tensors(read["G_ema"])["weight"], parameter)
    for record in (read["G_opt"], read["D_opt"], read["vis"], read["vis"]["camera"], read["vis"]["grid_c"]):
        assert isinstance(record, Plain)
    assert torch.equal(read["G_opt"]["param_groups"][0]["params"][0].values(), parameter)


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.pkl: refused .*posix\.system"):
        read_snapshot(_write(tmp_path / "a.pkl", {"vis": np.array([os.system], dtype=object)}))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x03Nr\xff\xff\xff\x7f.",
        b"\x80\x03Np2147483647\n.",
        b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"abc.",
        b"\x80\x04\x95" + (1 << 62).to_bytes(8, "little") + b"N.",
        b"\x80\x04\x96" + (1 << 62).to_bytes(8, "little") + b"abc.",
    ],
    ids=["memo", "memo in text", "bytes", "frame", "bytearray"],
)
def test_lengths_beyond_the_file_are_refused(tmp_path: Path, content: bytes) -> None:
    """`pickle` allocates what a length says; `convert_snapshot` limits the memory, as this test does."""
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pkl: refused .*(MemoryError|exceeds|truncated|only)"):
        with limits():
            read_snapshot(path)


def _hash_bomb() -> bytes:
    """A dictionary with a key of tuples within tuples, each of which holds the one before it twice."""
    pairs = b"".join(b"h%ch%c\x86\x940" % (n, n) for n in range(60))
    return b"\x80\x04K\x01\x940" + pairs + b"}h\x3cNs."


def _many_copies(published: Any) -> bytes:
    """Five hundred parameters of one storage of 8 MB."""
    storage = _Call(
        torch.storage._load_from_bytes, pickle.loads(pickle.dumps(torch.zeros(2 << 20).storage().__reduce__()[1][0]))
    )
    tensors = {f"p{n}": _Call(torch._utils._rebuild_tensor_v2, storage, 0, (2 << 20,), (1,)) for n in range(500)}
    return pickle.dumps({"G_ema": published("Generator", _state() | {"_parameters": tensors})})


@pytest.mark.parametrize(
    ("kind", "seconds", "words"), [("hashes", 1, "never ends"), ("copies", 4, "alloc|MemoryError|memory")]
)
def test_time_and_memory_are_bounded(
    tmp_path: Path, published: Any, kind: str, seconds: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SECONDS", seconds)
    path = tmp_path / "a.pkl"
    path.write_bytes(_hash_bomb() if kind == "hashes" else _many_copies(published))
    with pytest.raises(UserError, match=rf"a\.pkl: .*({words})"):
        convert_snapshot(path, tmp_path / "model")


@pytest.mark.parametrize(("size", "stride"), [((1 << 20,), (1,)), ((10**6, 10**7), (0, 0)), ((0, 1 << 70), (1, 1))])
def test_lies_about_sizes_are_refused(tmp_path: Path, published: Any, size: Any, stride: Any) -> None:
    huge = _Call(torch._utils._rebuild_tensor_v2, torch.zeros(4).storage(), 0, size, stride, False, {})
    state = _state() | {"_parameters": {"x": huge}}
    network = read_snapshot(_write(tmp_path / "a.pkl", {"G_ema": published("Generator", state)}))["G_ema"]
    with pytest.raises((ValueError, OverflowError, TypeError), match=r"larger than its storage|too large|Overflow"):
        network_tensors(network)


def test_the_state_of_a_tensor_cannot_be_set(tmp_path: Path, published: Any) -> None:
    """PyTorch's own way to take a state would give the tensor 4 TB."""
    storage = torch.zeros(4).storage()
    shape = (0, (4,), (1,))
    grown = _Call(torch._utils._rebuild_tensor_v2, storage, *shape, False, {})
    grown.call = (*grown.call, (torch.zeros(4), 0, (10**12,), (1,)))
    path = _write(tmp_path / "a.pkl", {"G_ema": published("Generator", _state()), "x": grown})
    with pytest.raises(UserError, match="refused to read this as a snapshot"):
        read_snapshot(path)


def test_a_storage_that_is_cut_off_is_refused(tmp_path: Path, published: Any) -> None:
    """Its values would be whatever was in memory."""
    content = torch.zeros(4).storage().__reduce__()[1][0]
    for cut in (content[:-1], content[:-16], content[:40]):
        tensor = _Call(torch._utils._rebuild_tensor_v2, _Call(torch.storage._load_from_bytes, cut), 0, (4,), (1,))
        state = _state() | {"_parameters": {"x": tensor}}
        network = read_snapshot(_write(tmp_path / "a.pkl", {"G_ema": published("Generator", state)}))["G_ema"]
        with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
            network_tensors(network)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps({"G_ema": 3})])
def test_other_files_are_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pkl: "):
        read_snapshot(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl: no such file"):
        read_snapshot(tmp_path / "none.pkl")


def test_a_folder_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read it \(Is a directory\); give the path of a published snapshot"):
        read_snapshot(tmp_path)


def test_odd_trees_of_modules_are_refused() -> None:
    def module(**parts: Any) -> dict[str, Any]:
        return {"_parameters": {}, "_buffers": {}, "_modules": parts}

    loop = module()
    loop["_modules"]["a"] = loop
    doubling = module()
    for _ in range(40):
        doubling = module(a=doubling, b=doubling)
    for state in (loop, doubling):
        with pytest.raises(UserError, match="contain themselves"):
            network_tensors(Network({"state": state}))
    for state in (module(a={"_parameters": [1]}), module() | {"_buffers": {1: torch.zeros(1)}}, {}):
        with pytest.raises((AttributeError, TypeError, KeyError)):
            network_tensors(Network({"state": state}))
