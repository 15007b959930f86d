"""Reads published snapshots without running any code of theirs.

A published snapshot is a pickle whose networks carry their own source code, which the original loader executes. Here a
restricted unpickler rebuilds tensors and plain containers and refuses everything else. A network becomes the dictionary
of its attributes. Settings (EasyDict, OmegaConf nodes), modules, optimizers, groups of tensors and NumPy arrays become
inert `Plain` records.
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

from threedgp.runtime.errors import UserError


class Plain(dict):
    """Inert stand-in for an object: its items and attributes are entries of a dictionary."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)


def _load_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    # PyTorch's own function would enlarge a storage that is too small; `as_strided` refuses it.
    return torch.empty(0, dtype=storage.dtype).set_(storage).as_strided(size, stride, offset)


def _numpy_dtype(name: str, *_: Any) -> Plain:
    record = Plain()
    record["name"] = name
    return record


def _numpy_scalar(dtype: Plain, data: bytes) -> Any:
    return np.frombuffer(data, np.dtype(dtype["name"]), count=1)[0].item()


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch", "Size"): lambda values: tuple(values),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("numpy", "dtype"): _numpy_dtype,
    **{(f"numpy.{core}.multiarray", "scalar"): _numpy_scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Plain for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Plain for core in ("core", "_core")},
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
        if (module, name) in _CONSTRUCTORS:
            return _CONSTRUCTORS[module, name]
        if _NETWORK.fullmatch(path):
            return lambda record: record["state"]
        if _INERT.fullmatch(path):
            return Plain
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if _TYPES.fullmatch(path):
            return path  # OmegaConf stores the type of a node, NumPy that of an array; a string cannot be called
        raise pickle.UnpicklingError(f"{path} is neither a tensor nor a plain container")


def read_snapshot(path: Path) -> dict[str, Any]:
    """The content of a published snapshot, as plain containers, tensors and `Plain` records.

    Raises:
        UserError: the file cannot be read, is no snapshot, or asks for code to be run.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give the path of a published snapshot (.pkl)."
        ) from None
    except Exception as error:  # damaged files raise nearly everything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: refused to read this as a snapshot: {reason}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), dict):
        raise UserError(f"{path}: this is no snapshot of 3DGP or EpiGRAF: it has no network 'G_ema'.")
    return content


def network_tensors(network: dict[str, Any]) -> dict[str, Tensor]:
    """Parameters and buffers of a network of `read_snapshot` by their published names."""
    tensors = network["_parameters"] | network["_buffers"]
    for name, module in network["_modules"].items():
        if module is not None:
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in network_tensors(module).items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
