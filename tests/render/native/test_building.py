"""Every C++ source compiles where there is a compiler; where one cannot be compiled, PyTorch replaces it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from threedgp.render import Decoder, RaySettings, midpoint_randomness, render_rays, verification
from threedgp.render.native import building, compositing, field

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "threedgp").rglob("*.cpp"))
SIZES = {"field.cpp": [("CHANNELS=8", "HIDDEN=16"), ("CHANNELS=32", "HIDDEN=64"), ("CHANNELS=24", "HIDDEN=20")]}


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


@pytest.fixture
def unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process and for a user that have used no native code yet; the working directory is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(building.SWITCH, raising=False)
    monkeypatch.setattr(building, "_warned", False)
    building._build.cache_clear()
    verification.problem.cache_clear()
    yield
    building._build.cache_clear()
    verification.problem.cache_clear()


def refusal() -> str:
    """Why native code is refused where it is asked for; otherwise PyTorch renders instead."""
    decoder = Decoder(torch.randn(16, 8), torch.zeros(16), torch.randn(4, 16), torch.zeros(4))
    origins, directions = torch.zeros(1, 5, 3), torch.randn(1, 5, 3)
    rays = (torch.randn(1, 3, 4, 4, 8), decoder, origins, directions, midpoint_randomness(1, 5, 6, 7, origins))
    settings = RaySettings(near=0.1, far=0.5, half_width=0.5)
    for _ in range(2):
        seen, expected = (render_rays(*rays, settings, backend=backend).rgb for backend in ("auto", "torch"))
        assert torch.equal(seen, expected)
    with pytest.raises(ValueError) as error:
        render_rays(*rays, settings, backend="native")
    return str(error.value)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no compiler", "no C++ compiler"),
        ("failing compiler", "failing failed: error: bad option"),
        ("no output", "cannot be built or loaded"),
        ("missing source", "missing.cpp"),
    ],
)
def test_without_native_code_pytorch_renders_after_one_warning(
    case: str, reason: str, unused: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("CXX", "")
    elif case == "failing compiler":
        failing = _script(tmp_path / "failing", "echo 'error: bad option' >&2; echo 'sorry' >&2; exit 1")
        monkeypatch.setenv("CXX", failing)
    elif case == "no output":
        monkeypatch.setenv("CXX", _script(tmp_path / "lazy", "exit 0"))
    else:
        for module in (field, compositing):
            monkeypatch.setattr(module, "SOURCE", tmp_path / "missing.cpp")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused = refusal()
    (text,) = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]
    assert "slower" in text and reason in text
    assert reason in refused, "an explicit request for native code says why there is none"


@pytest.mark.skipif(building.compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("place", ["a file", "~"])
def test_native_code_that_cannot_be_kept_is_used_with_a_warning(
    place: str, unused: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator may write to every folder, but not below a file."""
    Path("a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(place).resolve()) if place != "~" else place)
    with pytest.warns(RuntimeWarning, match="every process compiles native code again") as caught:
        for size in (4, 8):
            building.compiled(field.SOURCE, f"CHANNELS={size}", "HIDDEN=8")
    assert len({str(one.message) for one in caught}) == 1
    assert [path.name for path in Path().iterdir()] == ["a file"]


def test_native_code_that_is_disabled_needs_no_warning(unused: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(building.SWITCH, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f"{building.SWITCH} is 0" in refusal()
