"""Weights in any layout are loaded; mismatches are named."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from threedgp.features.networks import _timm as timm_weights
from threedgp.features.networks._timm import check_name, load_network, read_state, weights_file
from threedgp.runtime.errors import UserError

NAME = "test_resnet"


def state(name: str = NAME, **changes: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model(name, **changes).state_dict()


def assert_loaded(file: Path, expected: dict[str, torch.Tensor], name: str = NAME, size: int = 160) -> None:
    loaded = load_network(name, file, size).state_dict()
    assert loaded and all(torch.equal(value, expected[key]) for key, value in loaded.items())


def test_known_names():
    for name in ("resnet50.ram_in1k", "resnet50", "vit_base_patch32_clip_224.openai", "test_vit.r160_in1k"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet51", ["no model 'resnet51'", "resnet50"]),
        ("efficientnet_light0", ["efficientnet_lite0"]),
        ("resnet50.nothing", ["no weights 'nothing' for resnet50", "ram_in1k"]),
        ("zzzzzzzzzz", ["timm.list_models() names all"]),
    ],
)
def test_unknown_names_are_reported_with_similar_ones(name, parts):
    with pytest.raises(UserError, match=r"^embed\.network: ") as error:
        check_name(name)
    assert all(part in str(error.value) for part in parts)


def test_default_weights_are_those_of_timm(monkeypatch):
    asked = []
    monkeypatch.setattr(timm_weights, "find_weights", lambda *given, **how: asked.append((*given, how["key"])))
    weights_file("resnet50.ram_in1k", None)
    weights_file("resnet50.ram_in1k", "own.pth")
    key = "embed.weights"
    assert asked == [
        ("timm/resnet50.ram_in1k:model.safetensors", key),
        ("own.pth", key),
    ]
    with pytest.raises(UserError, match=r"embed\.weights: timm names no weights for resnet10\b"):
        monkeypatch.setattr(timm_weights, "get_pretrained_cfg", lambda name: None)
        weights_file("resnet10", None)


def test_offline_error_names_the_file(monkeypatch, tmp_path):
    """The hub cannot be reached, as on a machine that is offline."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("THREEDGP_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts of huggingface_hub
    with pytest.raises(UserError, match=r"^embed\.weights: ") as error:
        weights_file("resnet50.ram_in1k", None)
    sentence = str(error.value)
    assert "get model.safetensors of https://huggingface.co/timm/resnet50.ram_in1k" in sentence
    assert sentence.endswith("set embed.weights to its path.") and "\n" not in sentence


@pytest.mark.parametrize("wrapped", [{}, {"state_dict": None}, {"model": None, "epoch": 3}, {"state_dict_ema": None}])
def test_checkpoints_of_training_runs(tmp_path, wrapped):
    tensors, file = state(), tmp_path / "weights.pth"
    inside = {f"module.{key}": value for key, value in tensors.items()}
    torch.save({key: inside if value is None else value for key, value in wrapped.items()} or inside, file)
    assert_loaded(file, tensors)


@pytest.mark.parametrize("classes", [0, 7, 1000])
def test_classifier_may_have_any_number_of_classes(tmp_path, classes):
    tensors = state(num_classes=classes)
    save_file(tensors, tmp_path / "weights.safetensors")
    assert_loaded(tmp_path / "weights.safetensors", tensors)


def test_another_layout_is_converted(tmp_path):
    """The layout of OpenAI's CLIP, whose names and shapes differ from timm's."""
    name = "vit_xsmall_patch16_clip_224"
    tensors = state(name)
    names = [
        ("patch_embed.proj", "conv1"),
        ("blocks.", "transformer.resblocks."),
        ("norm_pre", "ln_pre"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
    ]
    theirs = {"logit_scale": torch.ones(())}  # of the whole of CLIP, as is the rest of it
    for key, value in tensors.items():
        for ours, other in names:
            key = key.replace(ours, other)
        if key == "cls_token":
            key, value = "class_embedding", value[0, 0]
        elif key == "pos_embed":
            key, value = "positional_embedding", value[0]
        elif key.startswith("norm."):
            key = key.replace("norm", "ln_post")
        elif key == "head.weight":
            key, value = "proj", value.T.contiguous()
        elif key == "head.bias":
            continue
        theirs[f"visual.{key}"] = value
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in theirs
    save_file({key: value.contiguous() for key, value in theirs.items()}, tmp_path / "clip.safetensors")
    assert_loaded(tmp_path / "clip.safetensors", tensors, name, 224)


def test_mismatched_tensors_are_named(tmp_path):
    tensors, file = state(), tmp_path / "weights.safetensors"
    tensors["surplus"] = tensors.pop("conv1.0.weight")
    tensors["bn1.weight"] = torch.zeros(5)
    save_file(tensors, file)
    with pytest.raises(UserError) as error:
        load_network(NAME, file, 160)
    sentence = str(error.value)
    for part in (
        f"{file} does not fit test_resnet",
        'Missing key.*"conv1.0.weight"',
        'Unexpected key.*"surplus"',
        "bn1",
    ):
        assert re.search(part, sentence)
    assert "\n" not in sentence


def test_weights_of_another_network(tmp_path):
    save_file(state("test_vit"), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"does not fit test_resnet: .*Missing key"):
        load_network(NAME, tmp_path / "weights.safetensors", 160)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("was here"),))


@pytest.mark.parametrize("content", [b"", b"no weights at all", pickle.dumps({"w": Hostile()}, protocol=2), b"\x80"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_without_tensors_are_refused(tmp_path, monkeypatch, content, suffix):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read safely") as error:
        read_state(file)
    assert not Path("was here").exists()
    assert "\n" not in str(error.value)


def test_objects_among_the_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state(), "arguments": Hostile()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="read safely"):
        read_state(tmp_path / "weights.pth")
    assert not Path("was here").exists()
    torch.save({"conv.weight": "not a tensor"}, tmp_path / "text.pth")
    with pytest.raises(UserError, match="not hold only tensors"):
        read_state(tmp_path / "text.pth")
