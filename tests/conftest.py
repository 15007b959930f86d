"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from command_line import Command, Outcome

if TYPE_CHECKING:
    from threedgp.models.generator import Generator

ROOT = Path(__file__).resolve().parent.parent
REQUIRE_SHARED = os.environ.get("THREEDGP_REQUIRE_SHARED") == "1"
"""Whether a test that needs ../shared fails where it would be skipped."""


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the project."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden arrays, which its README describes."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def real_rgbd() -> Path:
    """Folder of 24 real images with depth maps, which are not part of the project."""
    folder = ROOT.parent / "shared" / "real_rgbd"
    if not folder.is_dir():
        pytest.skip(f"needs ../shared: there is no {folder}")
    return folder


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """Folder of 300 ImageNet photographs in the official layout, which are not part of the project."""
    folder = ROOT.parent / "shared" / "real_photos"
    if not folder.is_dir():
        pytest.skip(f"needs ../shared: there is no {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """Two classes, random weights, quick to sample."""
    from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
    from threedgp.models.initialization import initial_generator

    sizes = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_max=8,
        decoder_hidden=8,
        coarse_samples=4,
        fine_samples=4,
    )
    generator = initial_generator(CameraConfig(hidden=8), ModelConfig(generator=sizes), 2, [0.5, 0.5], seed=0)
    return generator.eval().requires_grad_(False)


@pytest.fixture
def threedgp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``threedgp ARGUMENTS`` in this process."""
    from threedgp.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["threedgp", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code: object = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if REQUIRE_SHARED and report.skipped and "needs ../shared" in str(report.longrepr):
        report.outcome = "failed"
    return report
