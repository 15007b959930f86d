"""Published results on ImageNet at 256x256, for comparison."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row of the table; None = not published."""

    model: str
    synthesis: str
    fid: float
    inception_score: float | None
    cost: str | None
    """A100 days, or a statement of the authors."""


IMAGENET_256 = (
    Published("BigGAN", "2D", 8.7, 142.3, "60"),
    Published("StyleGAN-XL", "2D", 2.3, 265.1, "163+"),
    Published("ADM", "2D", 4.59, 186.7, "458"),
    Published("EG3D", "3D-aware", 26.7, 61.4, "18.7"),
    Published("EG3D, wide camera", "3D-aware", 25.6, 57.3, "18.7"),
    Published("VolumeGAN", "3D-aware", 77.68, 19.56, "15.17"),
    Published("StyleNeRF", "3D-aware", 56.64, 21.80, "20.55"),
    Published("StyleGAN-XL + 3DPhoto", "3D-aware", 116.9, 9.47, "165+"),
    Published("EpiGRAF", "3D", 47.56, 26.68, "15.9"),
    Published("EpiGRAF, wide camera", "3D", 58.17, 20.36, "15.9"),
    Published("3DGP", "3D", 19.71, 124.8, "28"),
    Published("VQ3D (2023)", "3D-aware", 16.8, None, None),
    Published("G3DR (2024)", "3D", 13.1, 151.7, "about half of 3DGP's, by its authors"),
)
