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
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
HEADERS = Path(__file__).parent
SWITCH = "THREEDGP_NATIVE"
"""Environment variable; 0 keeps everything from being compiled."""


class NativeError(RuntimeError):
    """Compiled code is not to be had; the message says why."""


def _compiler() -> str | None:
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def processor() -> str:
    """What `-march=native` depends on, so that machines that share a home do not share code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


@cache
def compiled(source: Path, *definitions: str) -> ctypes.CDLL:
    """The compiled `source`; `definitions` are constants of it, such as `CHANNELS=8`.

    Raises:
        NativeError: saying why it is not to be had.
    """
    if os.environ.get(SWITCH) == "0":
        raise NativeError(f"{SWITCH} is 0")
    compiler = _compiler()
    if compiler is None:
        raise NativeError("no C++ compiler (c++, g++ or clang++) was found")
    command = [compiler, *FLAGS, *(f"-D{definition}" for definition in definitions)]
    texts = [source.read_text(), *(header.read_text() for header in sorted(HEADERS.glob("*.h")))]
    key = hashlib.sha256("\0".join([*texts, *command, platform.machine(), processor()]).encode())
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "threedgp"
    except RuntimeError as problem:  # a container's user without a home
        raise NativeError(f"there is no folder to keep it in: {problem}") from problem
    target = folder / f"{source.stem}-{key.hexdigest()[:20]}.so"
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                built = Path(scratch) / target.name
                command += ["-I", str(HEADERS), str(source), "-o", str(built)]
                subprocess.run(command, check=True, capture_output=True, text=True)
                built.replace(target)
        return ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as problem:
        raise NativeError(f"{compiler} failed: {problem.stderr[-500:]}") from problem
    except OSError as problem:
        raise NativeError(f"cannot build or load {target}: {problem}") from problem


def reason_against(load: Callable[[], object]) -> str | None:
    """Why `load`, which calls `compiled`, gives nothing; None where it does."""
    try:
        load()
    except NativeError as problem:
        return str(problem)
    return None


def may_take(x: Tensor, reason_against: Callable[[], str | None]) -> bool:
    """Whether code for float32 on a CPU, which there may be a reason against, can work on `x`."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and reason_against() is None
    )


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's numbers; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
