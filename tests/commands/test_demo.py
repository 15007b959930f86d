"""The model that comes with the package: it loads by its name, and its images show their classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from threedgp.api import open_model
from threedgp.commands.options import DEMO
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import CLASS_NAMES, draw_scene
from threedgp.features.network import build_extractor
from threedgp.metrics.class_accuracy import class_accuracy
from threedgp.models.sampler import render_scenes, sample_scenes

MAX_BYTES = 3_000_000


def test_is_small_and_knows_its_classes() -> None:
    assert sum(file.stat().st_size for file in DEMO.iterdir()) < MAX_BYTES
    model = open_model(DEMO, "cpu")
    assert model.class_names == list(CLASS_NAMES) and model.resolution == 32


def test_commands_find_it_by_name(threedgp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = threedgp("generate", "demo", "--seeds", "0", "--classes", "giraffe", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    image = cv2.imread(str(tmp_path / "out" / f"seed0000_class{list(CLASS_NAMES).index('giraffe'):03d}.png"))
    assert image.shape == (32, 32, 3) and image.std() > 20


@pytest.mark.slow
def test_images_show_their_classes() -> None:
    """A linear classifier of freshly rendered images of the world recognizes the classes of generated ones.

    It reaches 0.88 on real images of this number; chance is 0.1.
    """
    scenes = [draw_scene(77, index) for index in range(1000)]
    reals = np.stack([cv2.resize(render_picture(s, 64).rgb, (32, 32), interpolation=cv2.INTER_AREA) for s in scenes])
    real_labels = np.array([scene.label for scene in scenes])
    model = open_model(DEMO, "cpu")
    labels = torch.arange(len(CLASS_NAMES)).repeat_interleave(20)
    with torch.inference_mode():
        fakes = render_scenes(model.generator, sample_scenes(model.generator, len(labels), 5, labels=labels), 32).images
    extract = build_extractor("efficientnet_lite0", input_size=64)
    features = {"model": extract(fakes).pooled.numpy()}
    real_features = extract(torch.from_numpy(reals).permute(0, 3, 1, 2).contiguous()).pooled.numpy()
    accuracy = class_accuracy(features, {"model": labels.numpy()}, real_features, real_labels)["model"]
    assert accuracy > 0.6
