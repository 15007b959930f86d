"""VGG16 comes through torch-fidelity; its weights are checked before they are read."""

from __future__ import annotations

import pytest
import torch

from threedgp.features.network import build_extractor
from threedgp.features.networks import _fidelity
from threedgp.features.networks.vgg16 import Vgg16
from threedgp.runtime.errors import UserError


def test_other_file_is_refused(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"evaluate\.neighbor_weights.*weights\.pth"):
        build_extractor("vgg16", input_size=224, weights=str(file))


def test_the_weights_are_those_of_torchvision():
    assert Vgg16.url.endswith(f"vgg16-{Vgg16.checksum.removeprefix('sha256:')[:8]}.pth")


def test_features_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    """With random weights of a small classifier, because the published ones are not shipped and have 553 MB."""
    import torchvision
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    full = torchvision.models.vgg16

    def small() -> torch.nn.Module:
        network = full(init_weights=False)
        network.classifier[0] = torch.nn.Linear(512 * 7 * 7, 8)
        network.classifier[3] = torch.nn.Linear(8, 8)
        network.classifier[6] = torch.nn.Linear(8, 10)
        return network

    monkeypatch.setattr(torchvision.models, "vgg16", small)
    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save(small().state_dict(), file)
    monkeypatch.setattr(_fidelity, "find_weights", lambda given, **how: file)
    theirs = FeatureExtractorVGG16("made-up", ["fc2_relu"], feature_extractor_weights_path=str(file))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    found = build_extractor("vgg16", input_size=224)(images)
    torch.testing.assert_close(found.pooled, theirs(images)[0], rtol=0, atol=0)
    assert found.pooled.max() > 0
    assert found.logits.shape == (2, 0)
