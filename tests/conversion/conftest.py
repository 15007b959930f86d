"""Pickles in the layout of the published snapshots."""

from __future__ import annotations

import collections
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    for key, value in members.items():
        value.__module__, value.__qualname__ = name, key
        setattr(module, key, value)
    return module


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes networks that pickle the way the published ones do: a call with one record that holds source code."""

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("the original loader was called; it runs source code")

    class EasyDict(dict):
        pass

    class TensorGroup:
        def __init__(self, **tensors: torch.Tensor) -> None:
            self.__dict__.update(tensors)

    for name in ("src", "src.torch_utils", "src.dnnlib", "src.training"):
        monkeypatch.setitem(sys.modules, name, _module(name))
    persistence = _module("src.torch_utils.persistence", _reconstruct_persistent_obj=_reconstruct_persistent_obj)
    util = _module("src.dnnlib.util", EasyDict=EasyDict)
    rendering = _module("src.training.rendering", TensorGroup=TensorGroup)
    for module in (persistence, util, rendering):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    class Persistent:
        def __init__(self, class_name: str, state: dict[str, Any]) -> None:
            self.record = {
                "type": "class", "version": 6, "module_src": "raise SystemExit('source was run')",
                "class_name": class_name, "state": state,
            }  # fmt: skip

        def __reduce__(self) -> tuple[Any, ...]:
            return persistence._reconstruct_persistent_obj, (self.record,), None, None, None

    Persistent.easy_dict = EasyDict
    Persistent.tensor_group = TensorGroup
    Persistent.nested = classmethod(_nested)
    yield Persistent


def _nested(persistent: Any, class_name: str, tensors: dict[str, torch.Tensor], **attributes: Any) -> Any:
    """A network of networks whose parameters have the dotted names of `tensors`."""
    own: dict[str, torch.Tensor] = {}
    inner: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = tensor
        else:
            own[name] = tensor
    kinds = ("_parameters", own), ("_modules", {key: _nested(persistent, "Part", part) for key, part in inner.items()})
    state = {"training": False, "_buffers": collections.OrderedDict(), **attributes}
    return persistent(class_name, state | {kind: collections.OrderedDict(content) for kind, content in kinds})
