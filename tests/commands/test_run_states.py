"""``threedgp view --watch`` follows the saved states of a run."""

from __future__ import annotations

import pytest
import torch

from threedgp.camera.geometry import FOV
from threedgp.commands import run_states
from threedgp.commands.run_states import StateWatch
from threedgp.models.initialization import initial_generator
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.errors import UserError
from threedgp.training.checkpoints import save_state
from training.worlds import tiny_config

CONFIG = tiny_config()
CPU = torch.device("cpu")


def save(folder, images: int, config=CONFIG) -> dict[str, torch.Tensor]:
    """Write the state of a model that is another one for each number of images; returns its weights."""
    weights = initial_generator(config.camera, config.model, 2, [], images).state_dict()
    settings = {name: getattr(config, name).model_dump(mode="json") for name in ("camera", "model")}
    save_state(folder / "states", images, {"settings": settings, "trainer": {"average": weights}}, keep=9)
    return weights


def test_newer_states_are_loaded_once(tmp_path):
    watch = StateWatch(tmp_path, CONFIG, [1, 1], CPU)
    assert watch.newer() is None
    for images in (16, 32):
        weights = save(tmp_path, images)
        found = StateWatch(tmp_path, CONFIG, [1, 1], CPU).newer() if images == 16 else watch.newer()
        assert all(torch.equal(value, weights[name]) for name, value in found.state_dict().items())
    assert watch.images == 32 and watch.newer() is None


def test_fields_of_view_follow_those_of_the_shards(tmp_path):
    config = tiny_config(camera={"prior": "estimated"})
    save(tmp_path, 16, config)
    generator = StateWatch(tmp_path, config, [1, 1], CPU, [[10.0, 40.0], [11.0, 12.0], [30.0, 31.0]]).newer()
    fov = sample_scenes(generator, 9, 0, labels=[0] * 5 + [1] * 4).prior_cameras[:, FOV]
    assert ((fov[:5] >= 11) & (fov[:5] <= 12)).all() and ((fov[5:] >= 30) & (fov[5:] <= 31)).all()


def test_random_classes_are_as_frequent_as_in_the_shards(tmp_path):
    """So that a seed shows the scene that it shows in the published model."""
    save(tmp_path, 16)
    assert StateWatch(tmp_path, CONFIG, [3, 1], CPU).newer().class_probabilities == [0.75, 0.25]
    assert (sample_scenes(StateWatch(tmp_path, CONFIG, [0, 9], CPU).newer(), 9, 0).labels == 1).all()


def test_a_state_that_cannot_be_read_is_left_for_later(tmp_path):
    save(tmp_path, 16)
    (tmp_path / "states" / "state-000000032.pt").write_bytes(b"half a state")
    watch = StateWatch(tmp_path, CONFIG, [1, 1], CPU)
    assert watch.newer() is None and watch.images == -1
    assert (tmp_path / "states" / "state-000000032.pt").exists(), "the folder belongs to the run"


def test_other_settings_are_one_sentence(tmp_path):
    save(tmp_path, 16)
    with pytest.raises(UserError, match="other shards"):
        StateWatch(tmp_path, CONFIG, [1] * 5, CPU).newer()
    other = tiny_config(camera={"radius": 2.0})  # of the same sizes
    with pytest.raises(UserError, match="section camera of the run has other settings"):
        StateWatch(tmp_path, other, [1, 1], CPU).newer()


def test_follows_until_it_is_told_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(run_states, "INTERVAL", 0.0)
    save(tmp_path, 16)
    watch = StateWatch(tmp_path / "states", CONFIG, [1, 1], CPU)
    seen = []

    def show(generator, images):
        seen.append(images)
        if images == 16:
            save(tmp_path, 48)
        else:
            watch.end()

    watch.follow(show)
    assert seen == [16, 48]
