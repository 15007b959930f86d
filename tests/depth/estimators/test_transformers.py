"""Models of transformers, tiny and random, saved to disk and loaded through the code that loads the published ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of the hub is imported

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, Rejected, build_estimator, get_estimator
from threedgp.depth.estimators._transformers import TransformersDepth
from threedgp.depth.estimators.depth_pro import MAX_DEPTH
from threedgp.runtime.errors import UserError

CPU = torch.device("cpu")
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False}
NECK = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}
DINO = {**VIT, **STAGES, "model_type": "dinov2", "mlp_ratio": 2, "image_size": 56, "patch_size": 14}
BEIT = {**VIT, **STAGES, "model_type": "beit", "intermediate_size": 32, "image_size": 64, "patch_size": 16}


def depth_anything(kind: str) -> tuple[Any, Any]:
    sizes = {**NECK, "reassemble_hidden_size": 16, "head_hidden_size": 8, "patch_size": 14}
    config = transformers.DepthAnythingConfig(
        backbone_config=DINO, **sizes, depth_estimation_type=kind, max_depth=1 if kind == "relative" else 20
    )
    size = {"height": 56, "width": 56}
    processor = transformers.DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14)
    return transformers.DepthAnythingForDepthEstimation(config), processor


def dpt(backbone: dict[str, Any] | None = None) -> tuple[Any, Any]:
    layers = {**VIT, "intermediate_size": 32, "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3]}
    config = transformers.DPTConfig(**({"backbone_config": backbone, "patch_size": 14} if backbone else layers), **NECK)
    side = 56 if backbone else 64
    return transformers.DPTForDepthEstimation(config), transformers.DPTImageProcessor(
        size={"height": side, "width": side}
    )


def zoedepth(*heads: tuple[str, float]) -> tuple[Any, Any]:
    bins = [{"name": name, "n_bins": 8, "min_depth": 0.001, "max_depth": most} for name, most in heads]
    small = {"bottleneck_features": 8, "num_attractors": [4, 4, 2, 1], "bin_embedding_dim": 8}
    small |= {"num_relative_features": 8, "patch_transformer_hidden_size": 128, "num_patch_transformer_layers": 4}
    small |= {"patch_transformer_intermediate_size": 16, "patch_transformer_num_attention_heads": 2}
    config = transformers.ZoeDepthConfig(
        backbone_config=BEIT, backbone_hidden_size=16, **NECK, **small, bin_configurations=bins
    )
    processor = transformers.ZoeDepthImageProcessor(size={"height": 64, "width": 64})
    return transformers.ZoeDepthForDepthEstimation(config), processor


def depth_pro() -> tuple[Any, Any]:
    encoder = {**VIT, "num_hidden_layers": 2, "model_type": "dinov2", "patch_size": 4, "image_size": 32, "mlp_ratio": 2}
    names = ("image_model_config", "patch_model_config", "fov_model_config")
    config = transformers.DepthProConfig(
        **{name: dict(encoder) for name in names},
        patch_size=32,
        fusion_hidden_size=8,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[16, 16, 8],
        merge_padding_value=1,
        use_fov_model=True,
    )
    processor = transformers.DepthProImageProcessor(size={"height": 128, "width": 128})
    return transformers.DepthProForDepthEstimation(config), processor


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "depth_anything_v2 relative": lambda: depth_anything("relative"),
    "depth_anything_v2 metric": lambda: depth_anything("metric"),
    "dpt": dpt,
    "dpt on dinov2": lambda: dpt(DINO),
    "zoedepth": lambda: zoedepth(("nyu", 10.0)),
    "zoedepth of two heads": lambda: zoedepth(("nyu", 10.0), ("kitti", 80.0)),
    "depth_pro": depth_pro,
}
INVERSE = {"depth_anything_v2 relative", "dpt"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, written by `save_pretrained`."""
    place = tmp_path_factory.mktemp("models")
    for kind, make in KINDS.items():
        torch.manual_seed(0)
        model, processor = make()
        with torch.no_grad():
            for name, weights in model.named_parameters():
                # The initial weights of transformers are so small that every image gives the same depth.
                if weights.ndim > 1:
                    weights.normal_(0, (2 / weights[0].numel()) ** 0.5)
                if kind == "depth_pro" and name in ("head.layers.4.bias", "fov_model.head.layers.4.bias"):
                    weights.fill_(0.5 if name.startswith("head") else 50.0)
        model.save_pretrained(place / kind)
        processor.save_pretrained(place / kind)
    return place


def load(folder: Path, name: str) -> TransformersDepth:
    return get_estimator(name).load(folder, CPU)


def pictures() -> list[NDArray[np.uint8]]:
    """Smooth, so that sizes matter little, and all different."""
    found = []
    for seed, size in enumerate((70, 100, 70)):
        coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
        found.append((smooth[0].permute(1, 2, 0) * 255).byte().numpy())
    return found


def through_registry(kind: str, models: Path) -> DepthEstimator:
    config = DepthConfig(estimator=kind.split()[0], weights=str(models / kind), batch_size=3)
    return build_estimator(config, "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_depth_is_that_of_the_documented_pipeline(kind: str, models: Path) -> None:
    """transformers' own pipeline for depth, image by image; larger is farther with us."""
    pipeline = transformers.pipeline("depth-estimation", model=str(models / kind), device=CPU)
    estimator = through_registry(kind, models)
    assert estimator.metric == (kind not in INVERSE)
    maps = estimator.estimate([RawPicture("a", 0, picture) for picture in pictures()])
    spread = []
    for picture, (found, fov) in zip(pictures(), maps, strict=True):
        expected = pipeline(Image.fromarray(picture))["predicted_depth"].numpy()
        expected = -expected if kind in INVERSE else expected
        if kind == "depth_pro":  # what is farther counts as sky
            known = expected < MAX_DEPTH
            assert 0.1 < known.mean() < 1
            expected = np.where(known, expected, expected[known].max())
        assert (fov is not None) == (kind == "depth_pro")
        assert found.shape == picture.shape[:2] and found.dtype == np.float32
        # float32 sums in another order, for the batch is another; Depth Pro divides by the result.
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        spread.append(np.ptp(found) / np.abs(found).max())
    assert min(spread) > 1e-3, "the maps are flat, so that nothing was tested"


@pytest.mark.parametrize("kind", KINDS)
def test_depth_does_not_depend_on_the_batch(kind: str, models: Path) -> None:
    estimator = through_registry(kind, models)
    raw = [RawPicture("a", 0, picture) for picture in pictures()]
    for (together, fov), one in zip(estimator.estimate(raw), raw, strict=True):
        ((alone, fov_alone),) = estimator.estimate([one])
        np.testing.assert_allclose(fov or 0, fov_alone or 0, rtol=1e-3)
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())


def test_heads_that_vote_are_asked_one_by_one(models: Path) -> None:
    assert load(models / "zoedepth", "zoedepth").batches
    assert not load(models / "zoedepth of two heads", "zoedepth").batches


def test_depth_pro_knows_no_depth_of_what_is_infinitely_far(models: Path, tmp_path: Path) -> None:
    """A head that says zero inverse depth everywhere: all sky, so there is nothing to train on."""
    folder = shutil.copytree(models / "depth_pro", tmp_path / "model")
    change(folder, lambda weights: weights["head.layers.4.bias"].fill_(-1e6))
    estimator = build_estimator(DepthConfig(estimator="depth_pro", weights=str(folder)), "cpu")
    (found,) = estimator.estimate([RawPicture("a", 0, pictures()[0])])
    assert found == Rejected("100.0% of the image has no depth (sky, or unknown)")


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    edit(weights)
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A copy of the DPT model, to be spoiled."""
    return shutil.copytree(models / "dpt", tmp_path / "model")


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    change(folder, lambda weights: weights.pop("head.head.0.weight"))
    with pytest.raises(UserError, match=r"model lacks 1 weights of 'dpt', such as head.head.0.weight"):
        load(folder, "dpt")


def test_weights_without_a_use_may_be_missing(folder: Path, models: Path) -> None:
    """As in Intel/dpt-large: the first fusion layer has no second input."""
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    change(folder, lambda weights: [weights.pop(name) for name in list(weights) if name.startswith(unused)])
    found, expected = (load(place, "dpt")(pictures()[:1])[0].depth for place in (folder, models / "dpt"))
    np.testing.assert_array_equal(found, expected)


def test_half_precision_on_disk_is_float32_at_work(folder: Path) -> None:
    change(folder, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert {value.dtype for value in load(folder, "dpt")._model.parameters()} == {torch.float32}


def test_another_kind_of_model(folder: Path) -> None:
    with pytest.raises(UserError, match=r"of type 'dpt', but depth.estimator 'zoedepth' needs 'zoedepth'"):
        load(folder, "zoedepth")


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot be loaded as 'dpt': .*safetensors"):
        load(folder, "dpt")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_code_beside_the_weights_is_not_run(name: str, folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (folder / "code.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    content = json.loads((folder / name).read_text())
    classes = {"AutoConfig": "code.A", "AutoModelForDepthEstimation": "code.A", "AutoImageProcessor": "code.A"}
    (folder / name).write_text(json.dumps({**content, "auto_map": classes}))
    load(folder, "dpt")  # transformers has its own classes for this model
    assert not trace.exists()
    kind = "model_type" if name == "config.json" else "image_processor_type"
    (folder / name).write_text(json.dumps({**content, kind: "unheard-of", "auto_map": classes}))
    with pytest.raises(UserError, match="cannot be loaded as 'dpt'"):
        load(folder, "dpt")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"broken"])
def test_damaged_folder(name: str, content: bytes | None, folder: Path) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=r"depth.weights: .*model"):
        load(folder, "dpt")


ODD_VALUES = [
    ("config.json", None, "TypeError"),
    ("config.json", {"hidden_size": "x"}, "StrictDataclassFieldValidationError"),
    ("config.json", {"hidden_size": 0}, "ZeroDivisionError"),
    ("config.json", {"hidden_act": "x"}, "KeyError: 'x'"),
    ("preprocessor_config.json", [], "AttributeError"),
]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("name", "content", "reason"), ODD_VALUES)
def test_odd_values_are_one_sentence(name: str, content: Any, reason: str, folder: Path) -> None:
    if isinstance(content, dict):
        content = json.loads((folder / name).read_text()) | content
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^depth.weights: .*model cannot be loaded as 'dpt': {reason}") as caught:
        load(folder, "dpt")
    assert "\n" not in str(caught.value)


def test_a_network_that_is_cut_short_is_refused(folder: Path) -> None:
    """The config asks for three of the four layers."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_hidden_layers": 3, "backbone_out_indices": [0, 1, 2, 2]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"holds \d+ weights that its config.json has no place for, such as dpt\..*3\."):
        load(folder, "dpt")


SPARE = {
    "dpt": ["auxiliary_head.head.0.weight", "dpt.pooler.dense.weight", "dpt.embeddings.position_ids"],
    "depth_anything_v2 metric": ["backbone.pooler.dense.weight"],
    "zoedepth": [
        "backbone.encoder.layer.0.attention.attention.relative_position_bias.relative_position_index",
        "backbone.embeddings.mask_token",
        "metric_head.conditional_log_binomial.log_binomial_transform.k_idx",
    ],
    "depth_pro": ["depth_pro.encoder.image_encoder.model.embeddings.position_ids"],
}


@pytest.mark.parametrize("kind", SPARE)
def test_spare_weights_without_a_part_in_depth_are_left_out(kind: str, models: Path, tmp_path: Path) -> None:
    folder, name = shutil.copytree(models / kind, tmp_path / "model"), kind.split()[0]
    change(folder, lambda weights: weights.update({key: torch.ones(2) for key in SPARE[kind]}))
    found, expected = (load(place, name)(pictures()[:1])[0].depth for place in (folder, models / kind))
    np.testing.assert_array_equal(found, expected)
    change(folder, lambda weights: weights.update({"neck.more.weight": torch.ones(2)}))
    with pytest.raises(UserError, match=r"holds 1 weights .* such as neck.more.weight; both files must be"):
        load(folder, name)


def test_transformers_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"'dpt' needs its package .*transformers.*; run `pip .*\[estimators\]`"):
        build_estimator(DepthConfig(estimator="dpt", weights=str(folder)), "cpu")
