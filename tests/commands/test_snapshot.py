"""``threedgp snapshot`` writes models of runs that have not ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from threedgp.data.loader import ShardLoader
from threedgp.models.loading import load_model, read_model_config
from threedgp.models.sampler import sample_scenes
from threedgp.training.checkpoints import Checkpoints, RunState, save_state
from threedgp.training.loop import prepare_trainer
from threedgp.training.step import Trainer
from training.worlds import make_batch, tiny_config, write_shards

RUN = Path(".scratch/train/run")


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A trainer on shards of the working directory, which has saved states after 4 and 8 images. The best model is that
    of 4 images."""
    monkeypatch.chdir(tmp_path)
    config = tiny_config(camera={"prior": "estimated"})
    Path("params.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    write_shards(tmp_path / "data/tiny/shards")
    loader = ShardLoader(Path("data/tiny/shards"), 4, 0)
    trainer, run = prepare_trainer(config, loader, torch.device("cpu")), RunState()
    loader.close()
    checkpoints = Checkpoints(trainer, run, RUN / "states")
    for images in (4, 8):
        trainer.step(make_batch(images))
        if images == 4:
            run.best_images, run.best_weights = 4, {k: v.clone() for k, v in trainer.average.state_dict().items()}
        checkpoints.save()
    return trainer


def test_it_is_the_averaged_generator_with_the_classes_and_views_of_the_data(trainer, threedgp) -> None:
    for folder in (RUN, RUN / "states"):
        outcome = threedgp("snapshot", folder, "models/new")
        assert outcome.code == 0, outcome.err
        model = load_model(Path("models/new"))
        ours, theirs = sample_scenes(model, 9, 0), sample_scenes(trainer.average, 9, 0)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), "labels and cameras are those drawn"
        for name, value in trainer.average.state_dict().items():
            assert torch.equal(model.state_dict()[name], value)
        discriminator = load_file("models/new/discriminator.safetensors")
        assert all(
            torch.equal(discriminator[name], value) for name, value in trainer.discriminator.state_dict().items()
        )
        assert read_model_config(Path("models/new"))["kimg"] == 0.008


@pytest.mark.parametrize("options", [("--best",), ("--kimg", "0.007")])
def test_the_best_or_an_earlier_one(options, trainer, threedgp) -> None:
    outcome = threedgp("snapshot", RUN, "models/old", *options)
    assert outcome.code == 0 and "after 0.004 thousand images" in outcome.out
    best = torch.load(RUN / "states/state-000000008.pt", weights_only=True)["run"]["best_weights"]
    found = load_model(Path("models/old")).state_dict()
    assert all(torch.equal(found[name], value) for name, value in best.items())
    assert any(not torch.equal(found[name], value) for name, value in trainer.average.state_dict().items())


def test_the_state_of_exactly_so_many_images(trainer, threedgp) -> None:
    (RUN / "states/state-000000008.pt").rename(RUN / "states/state-000016080.pt")
    outcome = threedgp("snapshot", RUN, "models/new", "--kimg", "16.08")
    assert "after 16.08 thousand images" in outcome.out


def test_refusals(trainer, refused) -> None:
    assert "data: holds no saved state; name the folder of a run" in refused("snapshot", "data", "models/new")
    message = refused("snapshot", RUN, "models/new", "--kimg", "0.001")
    assert "holds no saved state of at most 0.001 thousand images" in message
    moved = tiny_config(camera={"prior": "estimated", "radius": 2.0})
    Path("params.yaml").write_text(yaml.safe_dump(moved.model_dump(mode="json")))
    assert "section camera of the run has other settings" in refused("snapshot", RUN, "models/new")
    state = {"settings": {}, "trainer": trainer.state_dict(), "run": RunState().state_dict()}
    save_state(RUN / "states", 12, state, keep=9)
    assert refused("snapshot", RUN, "models/new", "--best").startswith("--best: ")
    manifest = Path("data/tiny/shards/manifest.json")
    manifest.write_text(manifest.read_text().replace('"num_classes": 3', '"num_classes": 4'))
    Path("params.yaml").write_text(yaml.safe_dump(trainer.config.model_dump(mode="json")))
    assert "other shards" in refused("snapshot", RUN, "models/new")
    assert not Path("models/new").exists()
