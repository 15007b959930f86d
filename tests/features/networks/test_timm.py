"""Features of timm's networks of several families, with random weights, against timm's own pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from features.networks.test_preprocessing import PICTURES, by_timm
from safetensors.torch import save_file

from threedgp.features.network import build_extractor, same_network
from threedgp.runtime.errors import UserError

SIZE = 64


def random_weights(name: str, file: Path, **changes: object) -> torch.nn.Module:
    """timm's model with weights that are also in `file`."""
    torch.manual_seed(0)
    model = timm.create_model(name, **changes).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # fresh ones would hide a mean that is not loaded
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    state = model.state_dict()
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return model


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("test_resnet.r160_in1k", 96),
        ("test_vit.r160_in1k", 64),
        ("test_convnext.r160_in1k", 64),
        ("test_efficientnet.r160_in1k", 256),
        ("mobilenetv3_small_050", 1024),  # has layers between the pool and the classifier
    ],
)
def test_features_are_those_of_the_plain_pipeline(name, dim, tmp_path):
    sizes = {"img_size": SIZE} if "vit" in name else {}
    model = random_weights(name, tmp_path / "weights.safetensors", **sizes)
    ours = build_extractor(name, input_size=SIZE, weights=str(tmp_path / "weights.safetensors"))
    features = ours(PICTURES)
    with torch.inference_mode():
        x = by_timm(model, SIZE, PICTURES)
        theirs = model.forward_head(model.forward_features(x), pre_logits=True)
    assert ours.feature_dim == dim and ours.name == name
    assert features.pooled.shape == theirs.shape == (3, dim)
    assert features.logits.shape == (3, 0)
    # Single bytes of the resized images differ by 1 (see test_preprocessing): some 1e-3 of what images differ in.
    scale = (theirs - theirs.mean(dim=0)).norm()
    assert (features.pooled - theirs).norm() < 1e-2 * scale


def test_features_of_dinov2_are_its_normalized_class_token(tmp_path):
    """A file as published: made for 518 pixels, with a token that only training used."""
    name, size, file = "vit_small_patch14_dinov2.lvd142m", 70, tmp_path / "weights.pth"
    state = random_weights(name, file).state_dict()
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, file)
    ours = build_extractor(name, input_size=size, weights=str(file))
    features = ours(PICTURES).pooled
    assert ours.feature_dim == 384
    assert ours.identity.endswith("-bicubic70-crop1-mean0.485,0.456,0.406-std0.229,0.224,0.225")
    model = timm.create_model(name, img_size=size, num_classes=0).eval()
    old, new = state.pop("pos_embed"), model.state_dict()["pos_embed"]
    positions = old[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    positions = torch.nn.functional.interpolate(positions, (5, 5), mode="bicubic", antialias=True)
    state["pos_embed"] = torch.cat([old[:, :1], positions.flatten(2).mT], dim=1)
    assert state["pos_embed"].shape == new.shape
    model.load_state_dict(state)
    with torch.inference_mode():
        theirs = model.norm(model.blocks(model._pos_embed(model.patch_embed(by_timm(model, size, PICTURES)))))[:, 0]
    # See above for the tolerance.
    assert (features - theirs).norm() < 1e-2 * (theirs - theirs.mean(dim=0)).norm()
    with pytest.raises(
        UserError, match=r"^embed\.input_size: .* patches of 14 pixels; set it to a multiple, such as 70"
    ):
        build_extractor(name, input_size=64, weights=str(file))


def test_features_do_not_depend_on_the_batch(tmp_path):
    random_weights("test_resnet", tmp_path / "weights.pth")
    ours = build_extractor("test_resnet", input_size=SIZE, weights=str(tmp_path / "weights.pth"))
    together, alone = ours(PICTURES).pooled, torch.cat([ours(picture[None]).pooled for picture in PICTURES])
    # Convolutions of other batch sizes add in another order.
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_identity_names_network_weights_and_preprocessing(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    random_weights("test_resnet", files[0])
    save_file({k: v + 1 for k, v in random_weights("test_resnet", files[1]).state_dict().items()}, files[1])
    identities = [
        build_extractor("test_resnet", input_size=size, weights=str(file)).identity
        for file in files
        for size in (32, 64)
    ]
    assert len(set(identities)) == 4
    assert identities[0].startswith("test_resnet-")
    assert identities[0].endswith("-bilinear32-crop0.95-mean0.5,0.5,0.5-std0.5,0.5,0.5")


def test_unsupported_input_size(tmp_path):
    random_weights("test_vit", tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"^embed.*test_vit"):
        build_extractor("test_vit", input_size=8, weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(("name", "size"), [("xcit_nano_12_p16_224", 48), ("pvt_v2_b0", 40)])
def test_patches_that_overlap_see_the_whole_image(name, size, tmp_path):
    """Their size, 16 and 7 pixels, does not limit that of images."""
    random_weights(name, tmp_path / "weights.pth")
    ours = build_extractor(name, input_size=size, weights=str(tmp_path / "weights.pth"))
    changed = PICTURES.clone()
    changed[..., -2:] = 255 - changed[..., -2:]
    assert not torch.equal(ours(PICTURES).pooled, ours(changed).pooled)


def test_positions_are_interpolated_to_another_size(tmp_path):
    model = random_weights("test_vit", tmp_path / "weights.pth")  # made for 160 pixels
    ours = build_extractor("test_vit", input_size=96, weights=str(tmp_path / "weights.pth"))
    torch.manual_seed(1)
    theirs = timm.create_model(
        "test_vit",
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": model.state_dict()},
        img_size=96,
    ).eval()
    with torch.inference_mode():
        x = ours._preprocess(PICTURES)
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
    torch.testing.assert_close(ours(PICTURES).pooled, expected, rtol=1e-4, atol=1e-5)


def test_same_network():
    assert same_network("tf_efficientnet_lite0.in1k", "efficientnet_lite0")
    assert not same_network("resnet50.ram_in1k", "inception")
    assert all(same_network(name, name) for name in ("inception", "resnet50.ram_in1k"))
