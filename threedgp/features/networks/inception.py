"""Inception-v3 of 2015-12-05, the network of FID, through torch-fidelity."""

from threedgp.features.networks._fidelity import FidelityNetwork


class Inception(FidelityNetwork):
    """Features of 2048 channels, and the 1008 logits without bias of the Inception score."""

    name, feature_dim, input_size = "inception", 2048, 299
    build = "feature_extractor_inceptionv3.FeatureExtractorInceptionV3"
    outputs = ("2048", "logits_unbiased")
    key = "features.weights"
    url = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
    checksum = "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    license = "Apache-2.0"


NETWORK = Inception
