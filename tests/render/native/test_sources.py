"""Every C++ source compiles where there is a compiler: what uses one falls back without a word, and its tests skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from threedgp.render.native import building

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "threedgp").rglob("*.cpp"))
SIZES = {"field.cpp": [("CHANNELS=8", "HIDDEN=16"), ("CHANNELS=32", "HIDDEN=64"), ("CHANNELS=24", "HIDDEN=20")]}


def test_there_are_sources() -> None:
    assert SOURCES


@pytest.mark.skipif(building._compiler() is None, reason="there is no C++ compiler")
@pytest.mark.skipif(os.environ.get(building.SWITCH) == "0", reason=f"{building.SWITCH} is 0")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_compiles(source: Path) -> None:
    for sizes in SIZES.get(source.name, [()]):
        assert building.compiled(source, *sizes)
