"""A tiny model on disk, and commands as a person runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from threedgp.config import Config, parse_config
from threedgp.models.saving import write_model

RESOLUTION = 16


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tiny_generator) -> Path:
    """Two classes, box and ball."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    about = dict(resolution=RESOLUTION, class_names=["box", "ball"], seed=0, kimg=1.5, dataset="tiny")
    write_model(folder, tiny_generator, **about)
    return folder


@pytest.fixture
def refused(threedgp) -> Callable[..., str]:
    """The one sentence with which a command refuses, without the word error."""

    def sentence(*arguments: object) -> str:
        code, _, err = threedgp(*arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1 and "Traceback" not in err
        return err.removeprefix("error: ").strip()

    return sentence


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, empty caches, and no token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "home/token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setenv("THREEDGP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings() -> Callable[..., Config]:
    """The published settings on ImageNet, except for the given sections."""

    def make(**sections: Any) -> Config:
        return parse_config({"dataset": {"source": "imagenet"}} | sections)

    return make
