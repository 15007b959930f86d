from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from threedgp.commands import doctor
from threedgp.config import Config, parse_config

SETTINGS: dict[str, Any] = {
    "dataset": {"name": "toy", "source": "procedural", "resolution": 32},
    "model": {"discriminator": {"patch_resolution": 16}},
    "features": {"network": "efficientnet_lite0"},
}


def settings(**sections: Any) -> Config:
    return parse_config(SETTINGS | sections)


def findings(config: Config) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(config)}


def test_this_machine_can_run_the_toy() -> None:
    found = findings(settings())
    assert set(found) >= {"Python", "PyTorch", "DVC", "CUDA GPU", "EfficientNet-Lite0", "Disk"}
    assert [finding.what for finding in found.values() if finding.needed and not finding.fine] == []
    for finding in found.values():
        assert finding.fine or finding.advice or finding.what == "Triton", finding


def test_weights_and_pictures_have_lines(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    found = findings(settings(features={"network": "inception", "weights": str(path)}))
    assert found["Weights of inception"].needed and not found["Weights of inception"].fine
    path.touch()
    assert findings(settings(features={"network": "inception", "weights": str(path)}))["Weights of inception"].fine
    assert "rendered" in found["Pictures (procedural)"].found


def test_gpu_is_needed_where_the_settings_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not findings(settings())["CUDA GPU"].needed
    gpu = findings(settings(machine={"device": "cuda"}))["CUDA GPU"]
    assert gpu.needed and not gpu.fine and gpu.advice


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage(10, 0, 10))
    disk = findings(settings())["Disk"]
    assert disk.needed and not disk.fine and "GiB are needed here" in disk.advice and "download.count" in disk.advice


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    found = findings(settings())["DVC"]
    assert not found.fine and found.found == "not installed" and "pip install" in found.advice
