"""Sections of ``params.yaml`` for a trained model: `evaluate`, `render`, `report`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from threedgp.config.choices import names
from threedgp.config.fields import BatchSize, Count, Few, Fraction, Integer, Section, Seed, Text

METRICS = names("threedgp.metrics")
"""Metrics of stage `evaluate`, see docs/metrics.md."""


class EvaluateConfig(Section):
    """Stage `evaluate`."""

    metrics: tuple[Literal[METRICS], ...] = METRICS
    """Metrics to compute (docs/metrics.md). Metrics that need what the source lacks are skipped."""
    samples: Annotated[Count, Field(ge=10)] = 50000
    """Generated images; at least 10, the splits of the Inception score. The Frechet distance compares them with all
    images of the unfiltered set."""
    real_samples: Annotated[Count, Field(ge=4)] = 50000
    """Real images, drawn at random, for metrics that compare images one by one; each needs a third nearest neighbor."""
    batch_size: BatchSize = 32
    seed: Seed = 0
    neighbor_network: Literal["vgg16", "features"] = "vgg16"
    """Network for precision, recall and the scores by class: VGG16, or that of section `features`."""
    neighbor_weights: Text | None = None
    """Path or URL of the VGG16 weights; null = those of torchvision."""
    controls: bool = False
    """Whether the untrained model, the other half of the real images and degraded real images are measured too."""
    nfs_samples: Count = 256
    """Generated scenes for `nfs`, `depth_levels` and the consistency of views."""
    depth_samples: Count = 1024
    """Generated scenes for `depth_consistency`."""
    archive: bool = False
    """Whether all samples are written to ``results/evaluation/samples.npz`` for the evaluator of ADM."""


class RenderConfig(Section):
    """Stage `render`: images, videos and meshes."""

    seed: Seed = 0
    grid: tuple[Few, Few] = (4, 8)
    """Rows and columns of the image grid."""
    truncation: Fraction = 1.0
    """1 = no truncation, 0 = the average scene (Karras et al. 2019)."""
    truncate_towards: Literal["all", "class"] = "all"
    """The mean of w over all classes (published), or over the scene's own class."""
    truncations: Annotated[tuple[Fraction, ...], Field(max_length=64)] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Values of truncation in the rows of the truncation sweep; empty = no sweep."""
    views: Few = 7
    """Cameras per scene in the view strip."""
    flights: Annotated[Integer, Field(ge=0, le=1024)] = 4
    """Scenes side by side in the camera flight; 0 = no video."""
    flight_frames: BatchSize = 48
    flight_path: Literal["front_circle", "line", "wiggle", "orbit"] = "front_circle"
    """Path of the camera: a circle in front of the scene, from left to right, from side to side with a nod, or a full
    orbit."""
    interpolation: Annotated[Integer, Field(ge=0, le=1024)] = 4
    """Scenes of the video that interpolates latent codes and returns to the first; 0 = no video."""
    interpolation_frames: BatchSize = 24
    """Frames between two scenes."""
    crf: Annotated[Integer, Field(ge=1, le=51)] = 18
    """Constant rate factor of H.264: 1 = best quality, 51 = worst."""
    meshes: Annotated[Integer, Field(ge=0, le=1024)] = 1
    """Number of scenes that are exported as meshes."""
    mesh_resolution: Annotated[Integer, Field(ge=8, le=1024)] = 128
    """Grid points along a side of the cube."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ReportConfig(Section):
    """Stage `report`."""

    title: Text = "3DGP"
    """Title of the page."""
    compare: Annotated[tuple[Text, ...], BeforeValidator(_as_list), Field(max_length=8)] = ()
    """Revisions to compare with, such as the names of experiments; those that differ in `train.seed` only give the
    range over seeds. A single one may stand without brackets."""
