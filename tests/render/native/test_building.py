"""Every C++ source compiles where there is a compiler; where one cannot be compiled, PyTorch replaces it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from threedgp.render.native import building

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "threedgp").rglob("*.cpp"))
SIZES = {"field.cpp": [("CHANNELS=8", "HIDDEN=16"), ("CHANNELS=32", "HIDDEN=64"), ("CHANNELS=24", "HIDDEN=20")]}

PROGRAM = """
import sys
from pathlib import Path
import torch
from threedgp.render import Decoder, RaySettings, midpoint_randomness, render_rays
from threedgp.render.native import compositing, field

if sys.argv[1:]:
    field.SOURCE = compositing.SOURCE = Path(sys.argv[1])
decoder = Decoder(torch.randn(16, 8), torch.zeros(16), torch.randn(4, 16), torch.zeros(4))
origins, directions = torch.zeros(1, 5, 3), torch.randn(1, 5, 3)
rays = (torch.randn(1, 3, 4, 4, 8), decoder, origins, directions, midpoint_randomness(1, 5, 6, 7, origins))
settings = RaySettings(near=0.1, far=0.5, half_width=0.5)
for _ in range(2):
    seen, expected = (render_rays(*rays, settings, backend=backend).rgb for backend in ("auto", "torch"))
    assert torch.equal(seen, expected)
try:
    render_rays(*rays, settings, backend="native")
except ValueError as error:
    print(error)
"""


def test_there_are_sources() -> None:
    assert SOURCES


@pytest.mark.skipif(building.compiler() is None, reason="there is no C++ compiler")
@pytest.mark.skipif(os.environ.get(building.SWITCH) == "0", reason=f"{building.SWITCH} is 0")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_compiles(source: Path) -> None:
    for sizes in SIZES.get(source.name, [()]):
        assert building.compiled(source, *sizes)


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no compiler", "no C++ compiler"),
        ("failing compiler", "failing failed: error: bad option"),
        ("no output", "cannot be built or loaded"),
        ("missing source", "missing.cpp"),
    ],
)
def test_without_native_code_pytorch_renders_after_one_warning(case: str, reason: str, tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop(building.SWITCH, None)
    arguments: list[str] = []
    if case == "no compiler":
        environment |= {"PATH": str(tmp_path), "CXX": ""}
    elif case == "failing compiler":
        environment["CXX"] = _script(tmp_path / "failing", "echo 'error: bad option' >&2; echo 'sorry' >&2; exit 1")
    elif case == "no output":
        environment["CXX"] = _script(tmp_path / "lazy", "exit 0")
    else:
        arguments = [str(tmp_path / "missing.cpp")]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    assert "slower" in done.stderr and reason in done.stderr
    assert reason in done.stdout, "an explicit request for native code says why there is none"


@pytest.mark.skipif(building.compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("place", ["a file", "~"])
def test_native_code_that_cannot_be_kept_is_used_with_a_warning(place: str, tmp_path: Path) -> None:
    """An administrator may write to every folder, but not below a file."""
    (tmp_path / "a file").write_text("")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / place) if place != "~" else place}
    environment.pop(building.SWITCH, None)
    program = "import sys; from pathlib import Path; from threedgp.render.native.building import compiled as c\n"
    program += "for size in (4, 8): c(Path(sys.argv[1]), f'CHANNELS={size}', 'HIDDEN=8')"
    command = [sys.executable, "-c", program, str(next(file for file in SOURCES if file.name == "field.cpp"))]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning: every process compiles native code again") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_native_code_that_is_disabled_needs_no_warning(tmp_path: Path) -> None:
    environment = os.environ | {building.SWITCH: "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert f"{building.SWITCH} is 0" in done.stdout
