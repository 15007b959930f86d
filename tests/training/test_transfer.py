"""Training starts from the networks of another run, for the same classes, others, more, fewer, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from threedgp.config import Config, parse_config
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_networks
from threedgp.models.layers import normalize_second_moment
from threedgp.models.sampler import draw_scenes
from threedgp.models.saving import save_model
from threedgp.runtime.errors import UserError
from threedgp.training.transfer import start_from
from training.worlds import FEATURES, kind_config, make_batch, make_trainer, tiny_config

ABC = ["a", "b", "c"]


def networks(config: Config, num_classes: int, features: int = FEATURES) -> tuple[Generator, Discriminator]:
    return initial_networks(config, num_classes, [1 / max(num_classes, 1)] * num_classes, features)


def source(folder: Path, names: list[str] = ABC, **changes: Any) -> tuple[Path, Generator, Discriminator]:
    """A model folder of a run that took a step, and its networks."""
    config = tiny_config(train={"seed": 5}, **changes)
    generator, discriminator = networks(config, len(names))
    with torch.no_grad():
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
        generator.mapping.w_average += 1
    save_model(folder, generator, config, class_names=names, kimg=1, discriminator=discriminator)
    return folder, generator, discriminator


def started(folder: Path, names: list[str], features: int = FEATURES, **changes: Any) -> tuple[Any, Any, list[str]]:
    generator, discriminator = networks(tiny_config(**changes), len(names), features)
    notes = start_from(folder, generator, discriminator, names)
    return generator, discriminator, notes


def styles(generator: Generator, label: int | None) -> torch.Tensor:
    labels = None if label is None else torch.full((16,), label)
    scenes = draw_scenes(generator, 3, "test", torch.arange(16), labels)
    return generator.map(scenes.z, scenes.labels)


def logits(discriminator: Discriminator, label: int | None) -> torch.Tensor:
    images = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    patch = torch.rand(4, 3, generator=torch.Generator().manual_seed(3))
    return discriminator(images, patch, None if label is None else torch.full((4,), label))[0]


def assert_equal_states(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    other = theirs.state_dict()
    assert set(ours.state_dict()) == set(other)
    for name, values in ours.state_dict().items():
        assert torch.equal(values, other[name]), name


def test_same_classes_take_everything(tmp_path: Path) -> None:
    folder, generator, discriminator = source(tmp_path / "model")
    ours, judge, notes = started(folder, ABC)
    assert notes == []
    assert_equal_states(ours, generator)
    assert_equal_states(judge, discriminator)


@pytest.mark.parametrize("conditioning", ["published", "balanced"])
def test_classes_follow_their_names(tmp_path: Path, conditioning: str) -> None:
    changes = {"model": {"discriminator": {"conditioning": conditioning}}}
    folder, generator, discriminator = source(tmp_path / "model", **changes)
    ours, judge, notes = started(folder, ["c", "new", "a", "b", "newer"], **changes)
    assert notes == ["2 of 5 classes", "the average of w"]
    for name, label in (("c", 0), ("a", 2), ("b", 3)):
        torch.testing.assert_close(styles(ours, label), styles(generator, ABC.index(name)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits(judge, label), logits(discriminator, ABC.index(name)), rtol=1e-4, atol=1e-5)
    assert (styles(ours, 1) - styles(ours, 4)).abs().max() > 0.01, "new classes differ from each other"
    torch.testing.assert_close(ours.backbone.state_dict(), generator.backbone.state_dict(), rtol=0, atol=0)
    # The average of w over the classes of the data, within four standard errors of independent draws
    scenes = draw_scenes(ours, 9, "independent", torch.arange(20_000))
    w = ours.map(scenes.z, scenes.labels)
    error = (ours.mapping.w_average - w.mean(dim=0)).abs() / (w.std(dim=0) * (1 / 4096 + 1 / 20_000) ** 0.5)
    assert error.max() < 4.5


def test_a_class_without_a_known_name_starts_anew(tmp_path: Path) -> None:
    folder, *_ = source(tmp_path / "model", names=["dog", "cat", "fish"])
    _, _, notes = started(folder, ["horse", "bird"])
    assert notes == ["2 of 2 classes", "the average of w"]


def test_labels_of_a_converted_snapshot_are_kept(tmp_path: Path) -> None:
    folder, generator, _ = source(tmp_path / "model", names=["0", "1", "2"])
    ours, _, notes = started(folder, ABC)
    assert notes == []
    assert_equal_states(ours, generator)


def test_a_background_is_added_to_a_model_without(tmp_path: Path) -> None:
    folder, generator, _ = source(tmp_path / "model")
    ours, _, notes = started(folder, ABC, model={"generator": {"background": "planes"}})
    assert notes == ["background_decoder", "background_output"]
    state = ours.state_dict()
    assert all(torch.equal(state[name], values) for name, values in generator.state_dict().items())
    assert len(state) > len(generator.state_dict())


def test_affine_adaptor_is_added_to_a_model_with_convolutions(tmp_path: Path) -> None:
    folder, generator, _ = source(tmp_path / "model")
    ours, _, notes = started(folder, ABC, model={"depth_adaptor": {"mode": "affine"}})
    assert notes == ["depth_adaptor.coefficients"]
    assert torch.equal(ours.depth_adaptor.near_offset_raw, generator.depth_adaptor.near_offset_raw)
    assert ours.depth_adaptor.coefficients[1].weight.eq(0).all()


@pytest.mark.parametrize("mode", ["off", "affine"])
def test_convolutions_are_added_to_an_adaptor_without(tmp_path: Path, mode: str) -> None:
    folder, generator, _ = source(tmp_path / "model", model={"depth_adaptor": {"mode": mode}})
    ours, _, notes = started(folder, ABC)
    assert notes == ["depth_adaptor.head", "depth_adaptor.layers"]
    assert torch.equal(ours.depth_adaptor.near_offset_raw, generator.depth_adaptor.near_offset_raw)


def test_from_no_classes_to_some(tmp_path: Path) -> None:
    folder, generator, discriminator = source(tmp_path / "model", names=[], model={"class_conditional": False})
    ours, judge, notes = started(folder, ["a", "b"])
    assert notes == ["class embeddings", "2 of 2 classes", "the average of w"]
    for label in (0, 1):  # the class has no effect at first
        torch.testing.assert_close(styles(ours, label), styles(generator, None), rtol=1e-4, atol=1e-5)
    scenes = draw_scenes(ours, 3, "test", torch.arange(16))
    theirs = generator.posterior(scenes.prior_cameras, scenes.z)
    torch.testing.assert_close(ours.posterior(*scenes[::-2], scenes.labels), theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(judge.blocks.state_dict(), discriminator.blocks.state_dict(), rtol=0, atol=0)


def test_from_some_classes_to_none(tmp_path: Path) -> None:
    folder, generator, _ = source(tmp_path / "model")
    ours, judge, notes = started(folder, [], model={"class_conditional": False})
    assert notes == ["the average of w"]
    # z enters as before, and the class no longer does
    weight, before = (one.mapping.layers[0] for one in (ours, generator))
    z = normalize_second_moment(torch.randn(5, 8))
    torch.testing.assert_close(z @ weight.effective()[0].T, z @ before.effective()[0][:, :8].T, rtol=1e-4, atol=1e-5)
    assert logits(judge, None).isfinite().all()


def test_parts_that_the_source_lacks_start_anew(tmp_path: Path) -> None:
    changes = {"camera": {"learned": False}}
    folder, generator, _ = source(tmp_path / "model", **changes)
    ours, _, notes = started(folder, ABC, features=FEATURES + 3)
    assert notes == ["camera_generator", "feature_head"]
    torch.testing.assert_close(ours.mapping.state_dict(), generator.mapping.state_dict(), rtol=0, atol=0)


def test_other_sizes_are_named(tmp_path: Path) -> None:
    folder, *_ = source(tmp_path / "model")
    with pytest.raises(
        UserError, match=r"^train\.init_from: .*its '\S+' is .*, and the settings make .*; copy sections"
    ):
        started(folder, ABC, model={"generator": {"channel_max": 6}})
    with pytest.raises(UserError, match=r"train\.init_from: .*it has no 'backbone\.blocks\.2"):
        started(folder, ABC, model={"generator": {"plane_resolution": 16}})
    _, _, notes = started(folder, ABC, model={"discriminator": {"channel_max": 6}})
    assert len(notes) == 1 and notes[0].startswith("the discriminator (its '")


def test_fewer_blocks_are_other_sizes(tmp_path: Path) -> None:
    equal_widths = {"discriminator": {"channel_max": 4}}
    folder, *_ = source(tmp_path / "large images", dataset={"resolution": 16}, model=equal_widths)
    _, _, notes = started(folder, ABC, model=equal_widths)
    assert notes == ["the discriminator (it has 'blocks.1', and the settings make none)"]
    folder, *_ = source(tmp_path / "large planes", model={"generator": {"plane_resolution": 16}})
    with pytest.raises(UserError, match=r"it has 'backbone\.blocks\.2', and the settings make none; copy sections"):
        started(folder, ABC)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("camera.lr_multiplier 0.1", {"camera": {"lr_multiplier": 1.0}}),
        ("model.generator.mapping_lr_multiplier 0.01", {"model": {"generator": {"mapping_lr_multiplier": 0.1}}}),
    ],
)
def test_weights_are_not_read_in_other_units(tmp_path: Path, key: str, changes: dict[str, Any]) -> None:
    folder, *_ = source(tmp_path / "model")
    with pytest.raises(UserError, match=rf"^train\.init_from: .*: its weights are stored for {key}; set it to that\."):
        started(folder, ABC, **changes)


def test_a_folder_without_discriminator_or_model(tmp_path: Path) -> None:
    folder, generator, _ = source(tmp_path / "model")
    (folder / "discriminator.safetensors").unlink()
    ours, _, notes = started(folder, ABC)
    assert notes == ["the discriminator (the folder has none)"]
    assert_equal_states(ours, generator)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"^train\.init_from: .*model\.safetensors: not the weights"):
        started(folder, ABC)
    with pytest.raises(UserError, match=r"^train\.init_from: .*no such file"):
        started(tmp_path / "none", ABC)


def test_damaged_discriminators_are_named(tmp_path: Path) -> None:
    folder, *_ = source(tmp_path / "model")
    file = folder / "discriminator.safetensors"
    state = load_file(file)
    state["conv.bias"][0] = float("nan")
    save_file(state, file)
    with pytest.raises(UserError, match=r"'conv\.bias' holds values that are not finite"):
        started(folder, ABC)
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"discriminator\.safetensors: cannot be read"):
        started(folder, ABC)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hf://ann/toys", "is not a path; download the model first"),
        ("~/model", "is not a path"),
        ("results/model", "is an output of this pipeline; copy the model to another folder"),
    ],
)
def test_settings_that_cannot_be(value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config({"dataset": {"source": "imagenet"}, "train": {"init_from": value}})


@pytest.mark.parametrize(
    "parts",
    [["mapping"], ["backbone", "decoder"], ["camera_generator", "depth_adaptor"], ["discriminator_blocks"]],
    ids=lambda parts: "+".join(parts),
)
def test_frozen_parts_keep_their_weights(parts: list[str]) -> None:
    trainer = make_trainer(tiny_config(train={"freeze": parts}))
    own = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    before = {key: {n: v.clone() for n, v in net.named_parameters()} for key, net in own.items()}
    for position in (0, 4):
        trainer.step(make_batch(position))

    def is_frozen(key: str, name: str) -> bool:
        if key == "generator":
            return name.split(".")[0] in parts
        return "discriminator_blocks" in parts and name.startswith(("from_rgb.", "blocks."))

    changed = {
        (key, name): not torch.equal(value, before[key][name])
        for key, net in own.items()
        for name, value in net.named_parameters()
    }
    assert any(is_frozen(*one) for one in changed)
    assert not [one for one, differs in changed.items() if differs and is_frozen(*one)]
    still = {one[1].split(".")[0] for one, differs in changed.items() if differs and one[0] == "generator"}
    assert still == {"mapping", "backbone", "decoder", "depth_adaptor", "camera_generator"} - set(parts)


def test_a_decoder_is_frozen_with_its_output() -> None:
    generator = make_trainer(kind_config("volumegan", train={"freeze": ["decoder"]})).generator
    frozen = {name.split(".")[0] for name, value in generator.named_parameters() if not value.requires_grad}
    assert frozen == {"decoder", "output"}


def test_parts_that_cannot_be_frozen() -> None:
    changes = {"camera": {"learned": False}}
    with pytest.raises(UserError, match=r"train\.freeze: this model has no camera_generator; remove it"):
        make_trainer(tiny_config(train={"freeze": ["camera_generator"]}, **changes))
    everything = ["mapping", "backbone", "decoder", "depth_adaptor"]
    with pytest.raises(UserError, match=r"train\.freeze: nothing of the generator is left to train"):
        make_trainer(tiny_config(train={"freeze": everything}, **changes))


def test_run_starts_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.worlds import train_over, write_shards

    folder, generator, _ = source(tmp_path / "model")
    write_shards(tmp_path / "shards")
    config = tiny_config(train={"init_from": str(folder), "generator_lr": 1e-9, "discriminator_lr": 1e-9})
    trainer, curves = train_over(tmp_path / "shards", tmp_path / "states", config)
    assert len(curves) == 4 and f"train: starts from {folder}\n" in capsys.readouterr().out
    for name, value in trainer.average.named_parameters():
        torch.testing.assert_close(value, generator.state_dict()[name], rtol=1e-3, atol=1e-5)
    assert json.loads((folder / "config.json").read_text())["class_names"] == ABC
