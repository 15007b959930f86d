"""A model without density gives images; what needs a scene behind them is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from threedgp.api import load
from threedgp.models.initialization import initial_generator
from threedgp.models.saving import write_model
from threedgp.runtime.errors import UserError
from training.worlds import kind_config


@pytest.fixture(scope="module")
def flat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = kind_config("stylegan2")
    generator = initial_generator(config.camera, config.model, 2, [0.5, 0.5], seed=0)
    folder = tmp_path_factory.mktemp("flat") / "model"
    write_model(folder, generator, resolution=8, class_names=["a", "b"], seed=0, kimg=1)
    return folder


@pytest.mark.parametrize(
    ("words", "purpose"),
    [
        (["mesh"], "a mesh"),
        (["refine"], "a refinement"),
        (["export", "--format", "points"], "an export"),
        (["view", "--no-browser"], "a moving camera"),
        (["fly", "--path", "orbit"], "a moving camera"),
        (["fly", "--interpolate", "--depth"], "depth"),
        (["fly", "--interpolate", "--path", "orbit"], "a moving camera"),
        (["fly", "--interpolate", "--cameras", "cameras.csv"], "a moving camera"),
        (["generate", "--normals"], "normals"),
        (["generate", "--camera", "front"], "a camera"),
    ],
)
def test_commands_refuse(words: list[str], purpose: str, flat_folder: Path, refused) -> None:
    command, *options = words
    sentence = refused(command, flat_folder, *options)
    assert "kind 'stylegan2' makes images without a scene" in sentence and purpose in sentence


def test_images_and_description(flat_folder: Path, threedgp, tmp_path: Path) -> None:
    outcome = threedgp("generate", flat_folder, "--seeds", "0-1", "--grid", "--out", tmp_path / "images")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "images").glob("*.png"))) == 3
    outcome = threedgp("info", flat_folder)
    assert "stylegan2" in outcome.out and "image 3 x 8 x 8" in outcome.out and "rays" not in outcome.out


def test_card_for_the_hub(flat_folder: Path, threedgp, tmp_path: Path) -> None:
    outcome = threedgp("push", flat_folder, "ann/flat", "--to-folder", tmp_path / "card")
    assert outcome.code == 0, outcome.err
    files = {"model.safetensors", "config.json", "README.md", "samples.png"}
    assert {file.name for file in (tmp_path / "card").iterdir()} == files
    text = (tmp_path / "card/README.md").read_text()
    assert "A generator of images" in text and "depth.png" not in text and "tags: [3d, gan, 3dgp, stylegan2]" in text


def test_python_interface(flat_folder: Path) -> None:
    scenes = load(flat_folder, "cpu").sample(range(2))
    images = scenes.render()
    assert images.shape == (2, 8, 8, 3) and np.ptp(images) > 10
    for ask in (scenes.depth, scenes.meshes, lambda: scenes.views("orbit", 2)):
        with pytest.raises(UserError, match="makes images without a scene behind them"):
            ask()
