"""C++ sources compiled on first use, where there is a compiler, and kept in the user's cache.

They are plain C++ behind a C interface: no headers of PyTorch are needed, and each compiles in about a second.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
HEADERS = Path(__file__).parent
SWITCH = "THREEDGP_NATIVE"
"""Environment variable; 0 disables native code."""


class NativeError(RuntimeError):
    """Native code is not available; the message says why."""


def _compiler() -> str | None:
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def processor() -> str:
    """What `-march=native` depends on, so that machines with a common home folder do not share binaries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


_warned = False


def _warn_once(reason: str) -> None:
    global _warned
    if not _warned:
        text = f"native code is not available, PyTorch operators replace it, which is several times slower: {reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    _warned = True


@cache
def _build(source: Path, *definitions: str) -> ctypes.CDLL | str:
    """The compiled `source`, or why it is not available."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH} is 0"
    compiler = _compiler()
    if compiler is None:
        return "no C++ compiler (c++, g++ or clang++) was found"
    command = [compiler, *FLAGS, *(f"-D{definition}" for definition in definitions)]
    try:
        texts = [file.read_text() for file in (source, *sorted(HEADERS.glob("*.h")))]
        key = hashlib.sha256("\0".join([*texts, *command, platform.machine(), processor()]).encode())
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "threedgp"
        target = folder / f"{source.stem}-{key.hexdigest()[:20]}.so"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                built = Path(scratch) / target.name
                command += ["-I", str(HEADERS), str(source), "-o", str(built)]
                subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
                built.replace(target)
        return ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return f"{compiler} failed: {next((line for line in lines if 'error' in line), lines[-1])}"
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        return f"{source.name} cannot be built or loaded: {error}"


def compiled(source: Path, *definitions: str) -> ctypes.CDLL:
    """The compiled `source`; `definitions` are constants of it, such as `CHANNELS=8`.

    Warns once per process where native code is expected but not available.

    Raises:
        NativeError: saying why it is not available.
    """
    built = _build(source, *definitions)
    if isinstance(built, str):
        if os.environ.get(SWITCH) != "0":
            _warn_once(built)
        raise NativeError(built)
    return built


def unavailable_reason(load: Callable[[], object]) -> str | None:
    """Why `load`, which calls `compiled`, raises NativeError; None if it does not."""
    try:
        load()
    except NativeError as error:
        return str(error)
    return None


reason_against = unavailable_reason


def may_take(x: Tensor, reason_against: Callable[[], str | None]) -> bool:
    """Whether native code for float32 on a CPU is available and supports `x`."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and reason_against() is None
    )


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's data; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
