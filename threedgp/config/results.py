"""Sections of ``params.yaml`` that say what is made of a trained model: `evaluate`, `render`, `report`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from threedgp.config.fields import Fraction, PositiveInt, Section


class EvaluateConfig(Section):
    """Stage `evaluate`."""

    samples: PositiveInt = 50000
    batch_size: PositiveInt = 32
    seed: int = 0
    nfs_samples: PositiveInt = 256


class RenderConfig(Section):
    """Stage `render`: what people look at."""

    seed: int = 0
    grid: tuple[PositiveInt, PositiveInt] = (4, 8)
    """Rows and columns of the picture grid."""
    truncation: Fraction = 1.0
    views: PositiveInt = 7
    """Cameras from which each scene of the view strip is shown."""
    flights: Annotated[int, Field(ge=0)] = 4
    """Scenes shown side by side in the camera flight; 0 = no video."""
    flight_frames: PositiveInt = 48
    meshes: Annotated[int, Field(ge=0)] = 1
    mesh_resolution: Annotated[int, Field(ge=8)] = 128


class ReportConfig(Section):
    """Stage `report`."""

    title: str = "3DGP"
