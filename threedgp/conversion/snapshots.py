"""Reads published snapshots without running any code of theirs.

A published snapshot is a pickle whose networks carry their own source code, which the original loader executes. Here a
restricted unpickler makes inert records of everything but plain containers: while a pickle is read, nothing is computed
or allocated from what it says. Tensors are rebuilt afterwards, those of one network only.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

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
MAX_PARTS = 10_000
"""Modules of a network, and settings; the published ones have a few hundred."""


class Plain(dict):
    """Inert stand-in for an object: its items and attributes are entries of a dictionary."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)


class Network(Plain):
    """The attributes of a pickled network. The source text that came with it is dropped."""

    def __init__(self, record: Any = None) -> None:
        super().__init__()
        self.__setstate__(record["state"])


class _Storage(NamedTuple):
    """A storage in PyTorch's old format: magic number, version, system, pickle, keys, raw bytes."""

    content: bytes

    def values(self) -> Tensor:
        stream = io.BytesIO(self.content)
        _, _, _, (_, dtype, key, _, count, *_), keys = (_Unpickler(stream).load() for _ in range(5))
        if keys != [key] or int.from_bytes(stream.read(8), "little") != count:
            raise ValueError("a storage of another size than announced")
        raw = bytearray(stream.read(count * dtype.itemsize))
        return torch.frombuffer(raw, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


class _Tensor(NamedTuple):
    """A tensor that is not built yet: it may be larger than its storage, or one of thousands with the same storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def values(self) -> Tensor:
        stored = self.storage.values()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if min((*self.size, *self.stride, self.offset)) < 0 or math.prod(self.size) > stored.numel():
            raise ValueError("a tensor of an impossible shape, or larger than its storage")
        if 0 not in self.size and last >= stored.numel():
            raise ValueError("a tensor larger than its storage")
        return stored.as_strided(self.size, self.stride, self.offset)


class _Dtype(str):
    """Name of a NumPy type; its byte order is set by a state, and is that of this machine."""

    def __setstate__(self, state: Any) -> None:
        pass


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype, count=1)[0].item()


_CONSTRUCTORS: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": Plain,
    "builtins.set": Plain,
    "torch.Size": tuple,
    "torch.device": Plain,
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, size, stride, *_: _Tensor(storage, offset, size, stride),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.storage._load_from_bytes": _Storage,
    "numpy.dtype": lambda name, *_: _Dtype(name),
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": Plain for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": Plain for core in ("core", "_core")},
}
_NETWORK = re.compile(r"(\w+\.)*torch_utils\.persistence\._reconstruct_persistent_obj")
_INERT = re.compile(
    r"((\w+\.)*dnnlib(\.\w+)*|omegaconf(\.\w+)*|torch\.nn\.modules\.\w+|torch\.optim(\.\w+)*)\.[A-Z]\w*"
    r"|(\w+\.)*TensorGroup"
)
_TYPES = re.compile(
    r"builtins\.(int|float|bool|str|dict|list|tuple)|typing\.(Any|Dict|List|Union|Optional)|numpy\.ndarray"
)


class _Unpickler(pickle.Unpickler):
    """Unpickler that calls only what `_CONSTRUCTORS` lists, and makes inert records."""

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in _CONSTRUCTORS:
            return _CONSTRUCTORS[path]
        if _NETWORK.fullmatch(path):
            return Network
        if _INERT.fullmatch(path):
            return Plain
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if _TYPES.fullmatch(path):
            return path  # OmegaConf stores the type of a node, NumPy that of an array; a string cannot be called
        raise pickle.UnpicklingError(f"it wants {path}, which is neither a tensor nor a plain container")

    def persistent_load(self, pid: Any) -> Any:
        return pid  # a storage within `_Storage`; elsewhere no tensor can be made from it


def read_snapshot(path: Path) -> dict[str, Any]:
    """The content of a published snapshot, as plain containers, `Plain` records, and tensors for `network_tensors`.

    Raises:
        UserError: the file cannot be read, is no snapshot, or asks for code to be run.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a published snapshot (.pkl).") from None
    except Exception as error:  # damaged files raise nearly everything
        if isinstance(error, OSError):
            what = f"cannot read it ({error.strerror or error}); give the path of a published snapshot (.pkl)"
        else:
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            what = f"refused to read this as a snapshot: {reason}"
        raise UserError(f"{path}: {what}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), Network):
        raise UserError(f"{path}: this is no snapshot of 3DGP or EpiGRAF: it has no network 'G_ema'.")
    return content


def network_tensors(network: Network) -> dict[str, Tensor]:
    """Parameters and buffers of a network of `read_snapshot` by their published names.

    Raises:
        UserError: a module contains itself.
        ValueError, TypeError, ...: a tensor is larger than its storage, or is none.
    """
    tensors: dict[str, Tensor] = {}
    modules: list[tuple[str, Any]] = [("", network)]
    for prefix, module in modules:
        for kind in ("_parameters", "_buffers"):
            tensors |= {prefix + name: data.values() for name, data in module[kind].items() if data is not None}
        modules += [(f"{prefix}{name}.", part) for name, part in module["_modules"].items() if part is not None]
        if len(modules) > MAX_PARTS or prefix.count(".") > 50:
            raise UserError("its network has parts that contain themselves.")
    return tensors
