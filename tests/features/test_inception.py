"""Inception comes through torch-fidelity; its weights are checked before they are read."""

from __future__ import annotations

import hashlib

import pytest
import torch

from threedgp.errors import UserError
from threedgp.features import inception
from threedgp.features.registry import build_extractor


@pytest.mark.parametrize("weights", [None, "nowhere/weights.pth"])
def test_missing_weights_say_what_to_fetch_and_where_to_put_it(weights):
    with pytest.raises(UserError) as error:
        build_extractor("inception", input_size=299, weights=weights)
    sentence = str(error.value)
    for part in (inception.WEIGHTS_NAME, inception.WEIGHTS_SHA256, inception.WEIGHTS_URL, "features.weights"):
        assert part in sentence
    assert "\n" not in sentence


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=hashlib.sha256(b"something else").hexdigest()):
        build_extractor("inception", input_size=299, weights=str(file))


def test_features_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    """With made-up weights, for the real ones are not shipped."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    file = tmp_path / "weights.pth"
    torch.save({}, file)
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(Theirs, "load_state_dict", lambda self, state: None)
        theirs = Theirs("made-up", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))
    torch.save(theirs.state_dict(), file)
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())

    ours = build_extractor("inception", input_size=299, weights=str(file))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    pooled, logits = theirs(images)
    features = ours(images)
    assert features.pooled.shape == (2, 2048)
    torch.testing.assert_close(features.pooled, pooled, rtol=0, atol=0)
    torch.testing.assert_close(features.logits, logits, rtol=0, atol=0)


def test_unknown_network():
    with pytest.raises(UserError, match="choose efficientnet_lite0 or inception"):
        build_extractor("vgg", input_size=224)
