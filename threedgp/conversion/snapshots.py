"""Reading published snapshots without running any code of theirs.

A published snapshot is a pickle whose networks carry their own source code, which the original loader executes. Here a
restricted unpickler rebuilds tensors and plain containers and refuses everything else. Classes of settings (EasyDict,
OmegaConf nodes) become inert `Plain` records, networks `Network` records with their ``__dict__``.
"""

from __future__ import annotations

import collections
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from threedgp.errors import UserError

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


def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise pickle.UnpicklingError("a tensor without a storage")
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    if len(size) != len(stride) or min((*size, *stride, offset), default=0) < 0:
        raise pickle.UnpicklingError("a tensor with an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.numel():
        raise pickle.UnpicklingError("a tensor larger than its storage")
    return torch.as_strided(storage, size, stride, offset).clone()


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype, count=1)[0].item()


def _dtype(name: str, *_: Any) -> np.dtype:
    dtype = np.dtype(str(name))
    if dtype.hasobject:
        raise pickle.UnpicklingError("an array of objects")
    return dtype


class _InertDtype:
    """NumPy's dtype pickles as a call and a state; the call says it all."""

    def __new__(cls, *arguments: Any) -> Any:
        return _dtype(*arguments)


def _load_storage(data: bytes) -> Tensor:
    """A storage in PyTorch's old format: magic number, version, system, pickle, keys, raw bytes."""
    stream = io.BytesIO(data)
    for _ in range(3):
        _Reader(stream).load()
    storages: dict[str, Tensor] = {}
    root = _Reader(stream, storages, largest=len(data)).load()
    for key in _Reader(stream).load():
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
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch", "Size"): lambda values: tuple(values),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("numpy", "dtype"): _InertDtype,
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}
_PERSISTENCE = re.compile(r"(\w+\.)*torch_utils\.persistence")
_INERT = re.compile(r"(\w+\.)*dnnlib(\.\w+)*|omegaconf(\.\w+)*|torch\.nn\.modules\.\w+")
_TYPE_NAMES = {("builtins", name) for name in ("int", "float", "bool", "str", "dict", "list", "tuple")} | {
    ("typing", name) for name in ("Any", "Dict", "List", "Union", "Optional")
}


class _Reader(pickle.Unpickler):
    """Unpickler that can only build what `_CONSTRUCTORS` lists, and inert records."""

    def __init__(self, stream: io.BufferedIOBase, storages: dict[str, Tensor] | None = None, largest: int = 0) -> None:
        """
        Args:
            stream: of the pickle.
            storages: filled with the storages that the pickle announces; None = it may announce none.
            largest: bytes that a storage may have, so that a lie cannot fill the memory.
        """
        super().__init__(stream)
        self._storages, self._largest = storages, largest

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CONSTRUCTORS:
            return _CONSTRUCTORS[module, name]
        if _PERSISTENCE.fullmatch(module) and name == "_reconstruct_persistent_obj":
            return _network
        if _INERT.fullmatch(module) and re.fullmatch(r"[A-Z]\w*", name):
            return Plain
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in _TYPE_NAMES:
            return f"{module}.{name}"  # OmegaConf notes the type of a node; its name is no callable
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is neither tensor nor plain container")

    def persistent_load(self, pid: Any) -> Tensor:
        if self._storages is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to data outside of itself")
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, torch.dtype) or not isinstance(count, int):
            raise pickle.UnpicklingError("a storage of unknown kind")
        if not 0 <= count * dtype.itemsize <= self._largest:
            raise pickle.UnpicklingError("a storage larger than the file")
        return self._storages.setdefault(str(key), torch.empty(count, dtype=dtype))


def read_snapshot(path: Path) -> dict[str, Any]:
    """The content of a published snapshot, as plain containers, tensors, `Plain` and `Network` records.

    Raises:
        UserError: the file is missing, is no snapshot, or asks for code to be run.
    """
    try:
        with path.open("rb") as stream:
            content = _Reader(stream).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a published snapshot (.pkl).") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: refused to read this as a snapshot: {error}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), Network):
        raise UserError(f"{path}: this is no snapshot of 3DGP or EpiGRAF: it has no network 'G_ema'.")
    return content


def network_tensors(network: Network) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled network by their published names."""
    tensors: dict[str, Tensor] = {}

    def walk(state: dict[str, Any], prefix: str) -> None:
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (state.get(kind) or {}).items():
                if isinstance(tensor, Tensor):
                    tensors[prefix + name] = tensor
        for name, module in (state.get("_modules") or {}).items():
            if isinstance(module, dict):
                walk(module.get("state", module), f"{prefix}{name}.")

    walk(network["state"], "")
    return tensors
