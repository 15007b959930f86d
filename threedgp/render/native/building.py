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
from functools import cache
from pathlib import Path

from torch import Tensor

from threedgp.render.verification import cache_folder

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
HEADERS = Path(__file__).parent
SWITCH = "THREEDGP_NATIVE"
"""Environment variable; 0 disables native code."""


def compiler() -> str | None:
    """Path of the C++ compiler."""
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def processor() -> str:
    """Features of the processor, which determine `-march=native`: machines that share a home folder may differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


@cache
def _build(source: Path, *definitions: str) -> ctypes.CDLL | str:
    """The compiled `source`, or why it is not available."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH} is 0"
    path = compiler()
    if path is None:
        return _warn("no C++ compiler (c++, g++ or clang++) was found")
    command = [path, *FLAGS, *(f"-D{definition}" for definition in definitions)]
    try:
        texts = [file.read_text() for file in (source, *sorted(HEADERS.glob("*.h")))]
        key = hashlib.sha256("\0".join([*texts, *command, platform.machine(), processor()]).encode())
        target = cache_folder() / f"{source.stem}-{key.hexdigest()[:20]}.so"
        if os.path.exists(target):  # False, too, where the folder cannot be read
            return ctypes.CDLL(str(target))
        with tempfile.TemporaryDirectory() as scratch:
            built = Path(scratch) / target.name
            command += ["-I", str(HEADERS), str(source), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
            library = ctypes.CDLL(str(built))
            _keep(built, target)
            return library
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return _warn(f"{path} failed: {next((line for line in lines if 'error' in line), lines[-1])}")
    except OSError as error:
        return _warn(f"{source.name} cannot be built or loaded: {error}")


def _keep(built: Path, target: Path) -> None:
    """Copy a compiled file into the cache; warn if it cannot be kept."""
    try:
        if not target.is_absolute():
            raise FileNotFoundError("the user has no home folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            Path(shutil.copy(built, scratch)).replace(target)
    except OSError as error:
        text = f"every process compiles native code again, since it cannot be kept: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


_warned = False


def _warn(reason: str) -> str:
    """Warn, the first time in a process, that native code is not available; returns the reason."""
    global _warned
    if not _warned:
        text = f"native code is not available, PyTorch operators replace it, which is several times slower: {reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    _warned = True
    return reason


def unavailable_reason(source: Path, *definitions: str) -> str | None:
    """Why `compiled` fails with these arguments; None if it does not."""
    built = _build(source, *definitions)
    return built if isinstance(built, str) else None


def compiled(source: Path, *definitions: str) -> ctypes.CDLL:
    """The compiled `source`; `definitions` are constants of it, such as `CHANNELS=8`. Raises RuntimeError, saying why
    it is not available. The first time in a process, there is also a warning."""
    built = _build(source, *definitions)
    if isinstance(built, str):
        raise RuntimeError(built)
    return built


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's data; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
