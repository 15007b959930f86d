"""Properties of the compiled kernels, without a GPU: spills, shared memory and vector instructions.

For each GPU architecture, with the oldest and the newest version of Triton that is supported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs the package triton")

OLDEST, NEWEST = "3.4.0", "3.9.0"
SHARED_LIMITS = {"80": 163 * 1024, "90": 227 * 1024, "100": 227 * 1024}
"""Bytes of shared memory of a processor."""
MAX_SPILLS = {OLDEST: 192, NEWEST: 64}
"""Bytes a thread, of sizes that nobody has published; the published one spills nothing."""


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def compiled(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Properties of the kernels by architecture and name, compiled with one version of Triton."""
    wanted, folder = request.param, root / "build" / f"triton-{request.param}"
    paths = [str(root)]
    if version("triton") != wanted:
        if not folder.exists():
            pytest.skip(f"needs Triton {wanted}: pip install --no-deps --target {folder} triton=={wanted}")
        paths.append(str(folder))
    script = root / "tests" / "render" / "compiled.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, str(script), *SHARED_LIMITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    made = json.loads(done.stdout)
    assert made["version"] == wanted
    return made


@pytest.mark.parametrize("target", SHARED_LIMITS)
def test_published_sizes_do_not_spill_and_others_little(compiled: dict, target: str) -> None:
    spills = {name: made["stack"] for name, made in compiled["kernels"][target].items()}
    others = {n: spilled for n, spilled in spills.items() if "field" in n and ("C 32" not in n or "hidden 128" in n)}
    assert {name: spilled for name, spilled in spills.items() if spilled and name not in others} == {}
    assert max(others.values()) <= MAX_SPILLS[compiled["version"]], others


@pytest.mark.parametrize("target", SHARED_LIMITS)
def test_shared_memory_suffices(compiled: dict, target: str) -> None:
    for name, made in compiled["kernels"][target].items():
        limit = SHARED_LIMITS[target] if "field" in name else 48 * 1024
        assert made["shared"] * made.get("programs", 1) <= limit, name


@pytest.mark.parametrize("target", SHARED_LIMITS)
def test_texels_are_loaded_as_vectors(compiled: dict, target: str) -> None:
    for name, made in compiled["kernels"][target].items():
        if "field" in name:
            width = ".v4.b32" if made["channels"] > 8 else ".v2.b32"  # eight channels of 16 bits: 16 bytes
            assert any(access.startswith("ld.") and access.endswith(width) for access in made["accesses"]), name


@pytest.mark.parametrize("target", SHARED_LIMITS)
def test_filters_access_sixteen_bytes_at_once(compiled: dict, target: str) -> None:
    for name, made in compiled["kernels"][target].items():
        if "filter" in name:
            assert made["accesses"] and all(access.endswith(".v4.b32") for access in made["accesses"]), name


@pytest.mark.parametrize("target", SHARED_LIMITS)
def test_gradients_of_texels_are_added_as_vectors(compiled: dict, target: str) -> None:
    """Triton up to 3.6 emits `atom`, whose results are unused: the assembler makes the same instructions of both."""
    for name, made in compiled["kernels"][target].items():
        if "field backward" in name:
            additions = [access for access in made["accesses"] if access.startswith(("red.", "atom."))]
            width = "" if target == "80" else ".v4" if made["channels"] > 8 else ".v2"  # sm_80 has no vectors
            assert additions
            assert all(a.endswith(f".relaxed.add{width}.f32") for a in additions), (name, additions)
