"""``threedgp doctor`` finds what is there, what will be downloaded, and what is missing."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from render.kernel_checks import needs_compiler

from command_line import Command
from genuine_formats import imagenet_files, write_imagenet_tar
from threedgp.commands import doctor
from threedgp.commands.preset import preset_values
from threedgp.config import Config, parse_config
from threedgp.config.choices import names
from threedgp.depth.estimator import NetworkKind, get_estimator
from threedgp.features.networks import inception
from threedgp.fetch.weights import find_model, find_weights
from threedgp.render import verification

Settings = Callable[..., Config]
TOY = preset_values("toy")

pytestmark = pytest.mark.usefixtures("empty_machine")


def findings(config: Config) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(config)}


def images(settings: Settings, **dataset: Any) -> doctor.Finding:
    (found,) = [one for name, one in findings(settings(dataset=dataset)).items() if name.startswith("Images")]
    return found


def test_this_machine_can_run_the_toy() -> None:
    found = findings(parse_config(TOY))
    assert set(found) >= {"Python", "PyTorch", "DVC", "CUDA GPU", "EfficientNet-Lite0", "Disk"}
    assert [finding.name for finding in found.values() if finding.required and finding.advice] == []
    assert "rendered" in found["Images (procedural)"].found


def test_gpu_is_required_if_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not findings(parse_config(TOY))["CUDA GPU"].required
    gpu = findings(parse_config(TOY | {"machine": {"device": "cuda"}}))["CUDA GPU"]
    assert gpu.required and gpu.advice


@needs_compiler
def test_kernels_that_differ_are_reported_until_they_agree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threedgp: Command
) -> None:
    monkeypatch.setattr(verification, "cache_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(TOY))
    with monkeypatch.context() as damaged:
        damaged.setattr(verification, "errors", lambda case: {"the gradient of planes": 0.5})
        verification.problem.cache_clear()
        found = findings(parse_config(TOY))["Renderer, field"]
    verification.problem.cache_clear()
    assert not found.required and "the gradient of planes differs by 0.5" in found.advice
    assert "the gradient of planes differs by 0.5" in threedgp("doctor").out
    assert "backend native agrees with PyTorch's operators" in threedgp("doctor", "--recheck").out
    verification.problem.cache_clear()
    assert not findings(parse_config(TOY))["Renderer, field"].advice
    verification.problem.cache_clear()


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage(10, 0, 10))
    disk = findings(parse_config(TOY))["Disk"]
    assert disk.required and "download.count" in disk.advice


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = findings(parse_config(TOY))["DVC"]
    assert found.found == "not installed" and "pip install" in found.advice


def test_imagenet_of_the_hub_needs_a_token(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = images(settings, source="imagenet")
    assert found.required and "HF_TOKEN" in found.advice and "ILSVRC2012_img_train.tar" in found.advice
    mirrored = findings(settings(machine={"mirror": "/mnt/mirror"}))["Images (imagenet)"]
    assert not mirrored.advice and "/mnt/mirror" in mirrored.found
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = images(settings, source="imagenet")
    assert not found.advice and "with your token" in found.found and "hf_secret" not in found.found


def test_data_sets_without_a_login(settings: Settings) -> None:
    dogs = images(settings, source="sdip", subset="dogs")
    assert not dogs.advice and "https://huggingface.co/datasets/rmokady/SDIP_dog" in dogs.found
    horse = images(settings, source="lsun", subset="horse")
    assert not horse.advice and "http://dl.yf.io/lsun/objects/horse.zip (2,000,340 images, 69.0 GB)" in horse.found


def test_local_tar_is_counted(settings: Settings) -> None:
    """Its own size and number of images, not those of all of ImageNet."""
    Path("sets").mkdir()
    tar = Path("sets/ILSVRC2012_img_train.tar")
    write_imagenet_tar(tar, imagenet_files())
    for path in ("sets", str(tar)):
        found = images(settings, source="imagenet", path=path)
        assert not found.advice and f"(12 images, {tar.stat().st_size / 1e3:,.1f} kB)" in found.found
    tar.write_bytes(tar.read_bytes()[:3000])
    found = images(settings, source="imagenet", path=str(tar))
    assert found.found == "cannot be used" and str(tar) in found.advice


def test_missing_images_and_mirror(settings: Settings) -> None:
    found = images(settings, source="imagenet", path="nowhere")
    assert found.required and found.found == "cannot be used" and found.advice.startswith("dataset.path: ")
    assert findings(settings(machine={"mirror": "~nouser"}))["Mirror"].advice.startswith("machine.mirror: ")
    assert "Mirror" not in findings(settings(machine={"mirror": "."}))


def test_weights_that_will_be_downloaded(settings: Settings) -> None:
    found = {name: one.found for name, one in findings(settings()).items() if name.startswith("Weights")}
    assert "res101.pth (license: research only" in found["Weights of leres"]
    assert inception.NETWORK.url in found["Weights of inception"]
    assert "(license: BSD-3-Clause)" in found["Weights of vgg16"]
    embed = found["Weights of resnet50.ram_in1k"]
    assert "https://huggingface.co/timm/resnet50.ram_in1k (license: apache-2.0)" in embed
    assert "/mnt/mirror" in findings(settings(machine={"mirror": "/mnt/mirror"}))["Weights of leres"].found
    url = "https://example.org/w.pth?x=secret"
    assert "secret" not in findings(settings(depth={"weights": url}))["Weights of leres"].found


@pytest.mark.parametrize("estimator", names("threedgp.depth.estimators"))
def test_weights_and_package_of_an_estimator(
    settings: Settings, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kind = get_estimator(estimator)
    if isinstance(kind, NetworkKind):
        found = findings(settings(depth={"estimator": estimator}))
        assert f"(license: {kind.license})" in found[f"Weights of {estimator}"].found
        packages = [one for name, one in found.items() if name.startswith("Package ")]
        assert [one.advice for one in packages] == ([f"run `{kind.install}`"] if kind.package else [])


def test_downloaded_weights_are_found(settings: Settings, tmp_path: Path) -> None:
    """The downloader itself fills the cache, from a mirror."""
    (tmp_path / "mirror/Intel/dpt-large").mkdir(parents=True)
    (tmp_path / "mirror/Intel/dpt-large/config.json").write_text("{}")
    (tmp_path / "mirror/Intel/dpt-large/model.safetensors").write_bytes(b"weights")
    (tmp_path / "mirror/own.pth").write_bytes(b"own weights")
    url = f"https://example.org/own.pth#sha256={hashlib.sha256(b'own weights').hexdigest()}"
    mirror = str(tmp_path / "mirror")
    file = find_weights(url, key="depth.weights", mirror=mirror)
    if not file.is_relative_to(mirror):
        assert findings(settings(depth={"weights": url}))["Weights of leres"].found == str(file)
    folder = find_model("Intel/dpt-large", key="depth.weights", mirror=mirror)
    if not folder.is_relative_to(mirror):
        assert findings(settings(depth={"estimator": "dpt"}))["Weights of dpt"].found == str(folder)


def test_network_that_timm_does_not_have(settings: Settings) -> None:
    found = findings(settings(embed={"network": "resnet51"}))["Weights of resnet51"]
    assert found.required and found.advice.startswith("embed.weights: ")
