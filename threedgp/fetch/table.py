"""Weights that metrics depend on, so that no other file is accepted: URLs, sizes, checksums and licenses."""

from __future__ import annotations

from dataclasses import dataclass

from threedgp.fetch.remote import Remote


@dataclass(frozen=True)
class Weights:
    """Weights of a network."""

    file: Remote
    key: str
    """The setting that may name another place."""
    license: str


WEIGHTS = {
    "inception": Weights(
        Remote(
            "weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            checksum="sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ),
        key="features.weights",
        license="Apache-2.0",
    ),
    "vgg16": Weights(
        Remote(
            "vgg16-397923af.pth",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            size=553_433_881,
            checksum="sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
        key="evaluate.neighbor_weights",
        license="BSD-3-Clause",
    ),
}
