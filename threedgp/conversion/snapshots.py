"""Reading published snapshots without running any code of theirs.

A published snapshot is a pickle whose networks carry their own source code, which the original loader executes. Here a
restricted unpickler rebuilds tensors and plain containers and refuses everything else. Classes of settings (EasyDict,
OmegaConf nodes), optimizers and groups of tensors become inert `Plain` records, networks `Network` records with their
``__dict__``. NumPy arrays, which only hold pictures and labels to look at, are dropped.
"""

from __future__ import annotations

import collections
import io
import math
import mmap
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from threedgp.runtime.errors import UserError

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What content of another kind than expected raises; RuntimeError includes endless recursion."""


class Plain(dict):
    """Inert stand-in for an object of settings or a module: its items and attributes are entries of a dictionary."""

    def __init__(self, *arguments: Any, **items: Any) -> None:
        super().__init__()
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            self.update(arguments[0])
        self.update(items)

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.update(part)


class Network(Plain):
    """A pickled network: `class_name` and `state`, its ``__dict__``. The source text that came with it is dropped."""


def _network(record: Any) -> Network:
    if not isinstance(record, dict) or not isinstance(record.get("state"), dict):
        raise pickle.UnpicklingError("a network without a state")
    return Network(class_name=str(record.get("class_name")), state=record["state"])


class _Rebuilt(Tensor):
    """A tensor that the pickle cannot change: PyTorch's own `__setstate__` would let it grow without bounds."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a tensor")


def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise pickle.UnpicklingError("a tensor without a storage")
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    if len(size) != len(stride) or min((*size, *stride, offset), default=0) < 0:
        raise pickle.UnpicklingError("a tensor with an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel() or (0 not in size and last >= storage.numel()):
        raise pickle.UnpicklingError("a tensor larger than its storage")
    return torch.as_strided(storage, size, stride, offset).as_subclass(_Rebuilt)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


class _Dtype:
    """NumPy's dtype pickles as a call and a state; of the state only the byte order counts."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[biufc]\d{1,2}", name):
            raise pickle.UnpicklingError("a NumPy array or value that is not of plain numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a NumPy value of unknown kind")
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


class _Array(Plain):
    """A NumPy array, checked and dropped: nothing that a model folder holds comes from one."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("a NumPy array of unknown kind")
        _, shape, dtype, _, data = state
        _array(data, dtype, shape)


def _array(data: Any, dtype: Any, shape: Any, *_: Any) -> _Array:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("a NumPy array of unknown kind")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError("a NumPy array of another size than its data")
    return _Array()


def _load_storage(data: bytes) -> Tensor:
    """A storage in PyTorch's old format: magic number, version, system, pickle, keys, raw bytes."""
    stream = io.BytesIO(data)
    for _ in range(3):
        _Reader(stream).load()
    storages: dict[str, Tensor] = {}
    root = _Reader(stream, storages, largest=len(data)).load()
    keys = _Reader(stream).load()
    if not isinstance(keys, list) or set(keys) != set(storages):
        raise pickle.UnpicklingError("storages that are announced and not there")
    for key in keys:
        tensor = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        if count != tensor.numel():
            raise pickle.UnpicklingError("a storage of another size than announced")
        raw = stream.read(count * tensor.element_size())
        if len(raw) != count * tensor.element_size():
            raise pickle.UnpicklingError("a storage that is cut off")
        if count:
            tensor.copy_(torch.frombuffer(bytearray(raw), dtype=tensor.dtype))
    if not isinstance(root, Tensor):
        raise pickle.UnpicklingError("a nested pickle that is no storage")
    return root


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch", "Size"): lambda values: tuple(values),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
}
_PERSISTENCE = re.compile(r"(\w+\.)*torch_utils\.persistence")
_INERT = re.compile(r"(\w+\.)*dnnlib(\.\w+)*|omegaconf(\.\w+)*|torch\.nn\.modules\.\w+|torch\.optim(\.\w+)*")
_TYPE_NAMES = (
    {("builtins", name) for name in ("int", "float", "bool", "str", "dict", "list", "tuple")}
    | {("typing", name) for name in ("Any", "Dict", "List", "Union", "Optional")}
    | {("numpy", "ndarray")}
)
_MEMORISES = {"PUT", "BINPUT", "LONG_BINPUT"}
_LARGEST_TREE = 10_000
"""Modules of a network; the published ones have a few hundred."""


class _Reader(pickle.Unpickler):
    """Unpickler that can only build what `_CONSTRUCTORS` lists, and inert records."""

    def __init__(self, stream: Any, storages: dict[str, Tensor] | None = None, largest: int = 0) -> None:
        """
        Args:
            stream: of the pickle; can seek.
            storages: filled with the storages that the pickle announces; None = it may announce none.
            largest: bytes that a storage may have, so that a lie cannot fill the memory.
        """
        super().__init__(stream)
        self._stream, self._storages, self._largest = stream, storages, largest

    def load(self) -> Any:
        """The next pickle of the stream, after a look at its lengths.

        `pickle` allocates what a length or a memo index says before it notices that the file is shorter.
        """
        start = self._stream.tell()
        end = self._stream.seek(0, os.SEEK_END) or self._stream.tell()  # mmap's seek returns nothing
        self._stream.seek(start)
        for count, (opcode, argument, position) in enumerate(pickletools.genops(self._stream)):
            # Picklers number what they memorise, so an index cannot exceed the number of steps so far.
            if opcode.name in _MEMORISES and argument > count:
                raise pickle.UnpicklingError("an index beyond the file")
            if opcode.name == "FRAME" and position + argument > end:
                raise pickle.UnpicklingError("a part that is longer than the file")
        self._stream.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CONSTRUCTORS:
            return _CONSTRUCTORS[module, name]
        if _PERSISTENCE.fullmatch(module) and name == "_reconstruct_persistent_obj":
            return _network
        if (_INERT.fullmatch(module) or name == "TensorGroup") and re.fullmatch(r"[A-Z]\w*", name):
            return Plain
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in _TYPE_NAMES:
            return f"{module}.{name}"  # OmegaConf notes the type of a node, NumPy that of an array; no callable
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is neither tensor nor plain container")

    def persistent_load(self, pid: Any) -> Tensor:
        if self._storages is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to data outside of itself")
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, torch.dtype) or not isinstance(count, int):
            raise pickle.UnpicklingError("a storage of unknown kind")
        if key not in self._storages:
            if not 0 <= count * dtype.itemsize <= self._largest:
                raise pickle.UnpicklingError("a storage larger than the file")
            self._largest -= count * dtype.itemsize
            self._storages[key] = torch.empty(count, dtype=dtype).as_subclass(_Rebuilt)
        return self._storages[key]


def read_snapshot(path: Path) -> dict[str, Any]:
    """The content of a published snapshot, as plain containers, tensors, `Plain` and `Network` records.

    Raises:
        UserError: the file is missing or unreadable, is no snapshot, or asks for code to be run.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            content = _Reader(stream).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a published snapshot (.pkl).") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot read it ({reason}); give the path of a published snapshot (.pkl).") from None
    except (pickle.UnpicklingError, EOFError, ArithmeticError, MemoryError, *MALFORMED) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: refused to read this as a snapshot: {reason}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), Network):
        raise UserError(f"{path}: this is no snapshot of 3DGP or EpiGRAF: it has no network 'G_ema'.")
    return content


def network_tensors(network: Network) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled network by their published names.

    Raises:
        UserError: the file's lists of parameters and modules are none, or a module contains itself.
    """
    tensors: dict[str, Tensor] = {}
    places: list[tuple[dict[str, Any], str]] = [(network["state"], "")]
    for state, prefix in places:
        for kind in ("_parameters", "_buffers", "_modules"):
            members = state.get(kind) or {}
            if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
                raise UserError(f"{kind} of its network{' part ' * bool(prefix)}{prefix[:-1]} is no table of names.")
            for name, member in members.items():
                if kind == "_modules" and isinstance(member, dict):
                    inner = member.get("state", member)
                    places.append((inner if isinstance(inner, dict) else {}, f"{prefix}{name}."))
                elif kind != "_modules" and isinstance(member, Tensor):
                    tensors[prefix + name] = member.as_subclass(Tensor)
        if len(places) > _LARGEST_TREE or prefix.count(".") > 50:
            raise UserError("its network has parts that contain themselves.")
    return tensors
