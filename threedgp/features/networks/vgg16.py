"""VGG16 with torchvision's ImageNet weights, the network of precision and recall, through torch-fidelity."""

from threedgp.features.networks._fidelity import FidelityNetwork


class Vgg16(FidelityNetwork):
    """Features of 4096 channels, after the second fully connected layer and its ReLU; no logits."""

    name, feature_dim, input_size = "vgg16", 4096, 224
    build = "feature_extractor_vgg16.FeatureExtractorVGG16"
    outputs = ("fc2_relu",)
    key = "evaluate.neighbor_weights"
    url = "https://download.pytorch.org/models/vgg16-397923af.pth"
    checksum = "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
    license = "BSD-3-Clause"


NETWORK = Vgg16
