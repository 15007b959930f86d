"""Every kind of model trains: losses fall, every parameter learns, runs repeat and resume; wrong settings are named."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

from threedgp.config import KINDS, Config, parse_config
from threedgp.models.initialization import initial_generator
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.runtime.errors import UserError
from threedgp.training.step import Trainer
from training.worlds import CLASSES, KIND_CHANGES, RESOLUTION, kind_config, make_batch, make_trainer

every_kind = pytest.mark.parametrize("kind", KINDS)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator, "average": trainer.average}
    return {f"{name}.{key}": value for name, one in networks.items() for key, value in one.state_dict().items()}


def _run(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.step(make_batch(trainer.images))
    return trainer


@every_kind
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "unconditional"])
def test_every_parameter_learns(kind: str, classes: bool) -> None:
    trainer = make_trainer(kind_config(kind, model={"class_conditional": classes}))
    before = copy.deepcopy(_weights(trainer))
    stats = trainer.step(make_batch(0))
    assert all(value.isfinite() for value in stats.values()) and "discriminator/r1" in stats
    after = _weights(_run(trainer, 3))
    for name, network in (("generator", trainer.generator), ("discriminator", trainer.discriminator)):
        keys = [f"{name}.{key}" for key, _ in network.named_parameters()]
        assert not [key for key in keys if before[key].equal(after[key])]


@every_kind
def test_relativistic_loss_reaches_every_parameter(kind: str) -> None:
    trainer = make_trainer(kind_config(kind, train={"loss": "relativistic", "r1_interval": 1}))
    stats = trainer.step(make_batch(0))
    assert all(value.isfinite() for value in stats.values()) and {"discriminator/r1", "discriminator/r2"} <= set(stats)
    for network in (trainer.generator, trainer.discriminator):
        assert not [name for name, one in network.named_parameters() if one.grad is None]


@every_kind
def test_pieces_of_a_batch_and_lower_precision(kind: str) -> None:
    """Two pieces give the gradients of the whole batch; in bfloat16 a step is finite."""
    gradients = []
    for pieces in (1, 2):
        config = kind_config(kind, train={"accumulation": pieces, "r1_interval": 1})
        trainer = make_trainer(config, dtype=torch.float64)
        trainer.step(make_batch(0))
        gradients.append([one.grad for one in (*trainer.generator.parameters(), *trainer.discriminator.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-10)
    stats = make_trainer(kind_config(kind, train={"precision": "bf16"})).step(make_batch(0))
    assert all(value.isfinite() for value in stats.values())


@every_kind
def test_compilation_covers_what_there_is(kind: str) -> None:
    make_trainer(kind_config(kind, train={"compile": True}))  # compiled at the first call


@every_kind
def test_losses_fall(kind: str) -> None:
    """Each network against the other one at rest, always on the same random numbers."""
    still = {"start": 0.0, "end": 0.0, "over": "0"}
    train = {"r1_gamma": 0.0, "generator_lr": 0.01, "discriminator_lr": 0.01, "density_noise": still}
    trainer = make_trainer(kind_config(kind, train=train))
    for network in ("discriminator", "generator"):
        losses = []
        for _ in range(15):
            stats: dict[str, torch.Tensor] = {}
            getattr(trainer, f"_{network}_phase")(make_batch(0), stats)
            losses.append(stats[f"{network}/loss"].item())
        assert losses[-1] < losses[0] - 0.02, network


@every_kind
def test_runs_repeat_and_resume(kind: str) -> None:
    config = kind_config(kind)
    whole = _run(make_trainer(config), 5)
    stopped = _run(make_trainer(config), 2)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = make_trainer(config)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for name, value in _weights(_run(resumed, 3)).items():
        assert value.equal(_weights(whole)[name]), name


@every_kind
def test_scenes_are_functions_of_their_seed(kind: str) -> None:
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, CLASSES, [0.5, 0.3, 0.2], seed=0).eval()
    scenes = sample_scenes(generator, 3, 0)
    together = render_scenes(generator, scenes, RESOLUTION)
    alone = render_scenes(generator, sample_scenes(generator, 1, 0, start=2), RESOLUTION)
    assert together.images.shape == (3, 3, RESOLUTION, RESOLUTION)
    assert (together.images[2:].int() - alone.images.int()).abs().max() <= 1
    assert together.images.float().std(dim=0).mean() > 1, "scenes differ"
    assert (together.depth is not None) == generator.has_density
    other_size = render_scenes(generator, scenes, 2 * RESOLUTION)
    assert other_size.images.shape == (3, 3, 2 * RESOLUTION, 2 * RESOLUTION)


@every_kind
def test_other_view_shows_the_same_scene_from_elsewhere(kind: str) -> None:
    """A model without density has one view of a scene."""
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, CLASSES, [0.5, 0.3, 0.2], seed=0).eval()
    z, labels, cameras = sample_scenes(generator, 2, 0)
    turned = cameras + torch.tensor([0.5, *[0.0] * 7])
    with torch.inference_mode():
        content = generator.make_content(generator.map(z, labels))
        views = [generator.render(content, camera, RESOLUTION).rgb for camera in (cameras, turned)]
    assert views[0].equal(views[1]) != generator.has_density


@pytest.mark.parametrize(
    ("kind", "changes", "advice"),
    [
        ("epigraf", {"camera": {"learned": True}}, "set camera.learned to false"),
        ("epigraf", {"train": {"distillation": {"loss": "l2"}}}, "set train.distillation.loss to none"),
        ("stylegan2", {"model": {"depth": True}}, "set model.depth to false"),
        ("stylegan2", {"model": {"generator": {"plane_resolution": 4}}}, "model.generator.plane_resolution to 8"),
        ("stylegan2", {"model": {"discriminator": {"patch_resolution": 4}}}, "discriminator.patch_resolution to 8"),
        ("stylegan2", {"train": {"patch_scale_min": 0.5}}, "set train.patch_scale_min to 1"),
        ("3dgp", {"model": {"generator": {"upsampling": 4}}}, "set model.generator.upsampling to 1"),
        ("3dgp", {"model": {"generator": {"pose_conditioning": True}}}, "generator.pose_conditioning to false"),
        ("epigraf", {"model": {"generator": {"published_planes": True}}}, "generator.published_planes to false"),
        ("volumegan", {"model": {"generator": {"contraction": True}}}, "set model.generator.contraction to false"),
        ("stylenerf", {"model": {"generator": {"contraction": True}}}, "set model.generator.contraction to false"),
        ("stylegan2", {"train": {"density_regularization": 1.0}}, "set train.density_regularization to 0"),
    ],
)
def test_settings_of_absent_parts_are_named(kind: str, changes: dict[str, Any], advice: str) -> None:
    values = kind_config(kind).model_dump(mode="json")
    for section, inner in changes.items():
        for key, value in inner.items():
            values[section][key] = values[section][key] | value if isinstance(value, dict) else value
    with pytest.raises(UserError, match=f"^params.yaml: model.kind: '{kind}' has no such part; .*{advice}"):
        parse_config(values)


def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    values: dict[str, Any] = {"dataset": {"name": "a", "source": "procedural"}, "model": {"kind": "biggan"}}
    with pytest.raises(UserError, match=r"model.kind: input should be '3dgp', .* but it is 'biggan'"):
        parse_config(values)


def test_every_kind_has_tiny_settings() -> None:
    assert list(KIND_CHANGES) == list(KINDS) and all(isinstance(kind_config(kind), Config) for kind in KINDS)
