"""Weights that the pipeline may download: addresses, sizes, checksums and licenses."""

from __future__ import annotations

from dataclasses import dataclass

from threedgp.fetch.remote import Remote


@dataclass(frozen=True)
class Weights:
    """Weights of a network."""

    file: Remote
    key: str
    """The setting that may name another place."""
    licence: str
    only: bool = True
    """Whether nothing but this very file will do, also under another name; a number like FID depends on it."""


WEIGHTS = {
    "inception": Weights(
        Remote(
            "weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            checksum="sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ),
        key="features.weights",
        licence="Apache-2.0",
    ),
    "vgg16": Weights(
        Remote(
            "vgg16-397923af.pth",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            size=553_433_881,
            checksum="sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
        key="evaluate.neighbor_weights",
        licence="BSD-3-Clause",
    ),
    "leres": Weights(
        # The authors' own server is gone; this copy is known by the checksum of the original.
        Remote(
            "res101.pth",
            "https://huggingface.co/lllyasviel/Annotators/resolve/main/res101.pth",
            size=530_760_553,
            checksum="sha256:1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b",
        ),
        key="depth.weights",
        licence="for research only, not to be redistributed",
        only=False,  # res50.pth, or weights of one's own
    ),
}
