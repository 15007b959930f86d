"""Inception comes through torch-fidelity; its weights are checked before they are read."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
import torch

from threedgp.features.network import build_extractor
from threedgp.features.networks import _fidelity
from threedgp.features.networks.inception import Inception
from threedgp.fetch.http import RetryPolicy
from threedgp.fetch.weights import find_weights
from threedgp.runtime.errors import UserError


def test_offline_error_names_the_file_and_its_place(tmp_path, monkeypatch):
    """The default URL cannot be reached, as on a machine that is offline."""
    monkeypatch.setattr(Inception, "url", "http://127.0.0.1:9/weights.pth")
    monkeypatch.setattr(_fidelity, "find_weights", partial(find_weights, policy=RetryPolicy(max_attempts=1)))
    monkeypatch.setenv("THREEDGP_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^features\.weights: ") as error:
        build_extractor("inception", input_size=299)
    sentence = str(error.value)
    assert "http://127.0.0.1:9/weights.pth" in sentence and "put it at " in sentence
    assert str(tmp_path) in sentence
    assert "\n" not in sentence


def test_missing_file_is_named():
    with pytest.raises(UserError, match=r"^features\.weights: nowhere/weights\.pth does not exist"):
        build_extractor("inception", input_size=299, weights="nowhere/weights.pth")


def test_other_file_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"^features\.weights: .*weights\.pth.*another"):
        build_extractor("inception", input_size=299, weights=str(file))


@pytest.mark.parametrize("by_address", [False, True])
def test_features_are_those_of_torch_fidelity(tmp_path, monkeypatch, by_address):
    """With random weights, because the published ones are not shipped."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    file = tmp_path / "weights.pth"
    torch.save({}, file)
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(Theirs, "load_state_dict", lambda self, state: None)
        theirs = Theirs("made-up", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))
    torch.save(theirs.state_dict(), file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(Inception, "checksum", f"sha256:{checksum}")

    weights = file.as_uri() if by_address else str(file)
    ours = build_extractor("inception", input_size=299, weights=weights)
    assert ours.identity == f"inception-{checksum[:8]}"
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    pooled, logits = theirs(images)
    features = ours(images)
    assert features.pooled.shape == (2, 2048)
    torch.testing.assert_close(features.pooled, pooled, rtol=0, atol=0)
    torch.testing.assert_close(features.logits, logits, rtol=0, atol=0)

    x = interpolate_bilinear_2d_like_tensorflow1x(images.float(), (299, 299), align_corners=False) / 128 - 1
    layers = list(theirs._modules)
    for name in layers[: layers.index("Mixed_6d")]:
        x = theirs._modules[name](x)
    first = theirs.Mixed_6d.branch1x1  # mixed_6/conv of TensorFlow, where channels come last
    spatial = first.bn(first.conv(x)).relu().permute(0, 2, 3, 1)[..., :7].reshape(2, 17 * 17 * 7)
    torch.testing.assert_close(features.spatial, spatial, rtol=1e-4, atol=1e-5)
