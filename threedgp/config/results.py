"""Sections of ``params.yaml`` that say what is made of a trained model: `evaluate`, `render`, `report`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from threedgp.config.choices import names
from threedgp.config.fields import Fraction, PositiveInt, Section, Seed

METRICS = names("threedgp.metrics")
"""What stage `evaluate` can measure, see docs/metrics.md."""


class EvaluateConfig(Section):
    """Stage `evaluate`."""

    metrics: tuple[Literal[METRICS], ...] = METRICS
    """What to measure. Where a source lacks what a metric needs, such as true cameras, it is left out."""
    samples: Annotated[int, Field(ge=10)] = 50000
    """Generated pictures, at least as many as the score has parts. The Frechet distance compares them with all real
    ones of the unfiltered set."""
    real_samples: PositiveInt = 50000
    """Real pictures, drawn at random, for the metrics that look at pictures one by one."""
    batch_size: PositiveInt = 32
    seed: Seed = 0
    neighbor_network: Literal["vgg16", "features"] = "vgg16"
    """Whose features precision, recall and what goes by classes take: VGG16's, or those of section `features`."""
    neighbor_weights: str | None = None
    """Path or URL of the VGG16 weights, null = torchvision's."""
    controls: bool = False
    """Also measure the untrained model, the other half of the real set and spoilt real pictures."""
    nfs_samples: PositiveInt = 256
    """Generated scenes for the non-flatness score and the agreement of views."""
    depth_samples: PositiveInt = 1024
    """Generated scenes that the depth estimator looks at."""
    archive: bool = False
    """Also write all samples as results/evaluation/samples.npz, which the evaluator of ADM reads."""


class RenderConfig(Section):
    """Stage `render`: what people look at."""

    seed: Seed = 0
    grid: tuple[PositiveInt, PositiveInt] = (4, 8)
    """Rows and columns of the picture grid."""
    truncation: Fraction = 1.0
    truncate_towards: Literal["all", "class"] = "all"
    """The mean of w over all classes (published), or over the scene's own class."""
    truncations: tuple[Fraction, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Rows of the picture that shows what truncation does; none = no such picture."""
    views: PositiveInt = 7
    """Cameras from which each scene of the view strip is shown."""
    flights: Annotated[int, Field(ge=0)] = 4
    """Scenes shown side by side in the camera flight; 0 = no video."""
    flight_frames: PositiveInt = 48
    flight_path: Literal["front_circle", "line", "wiggle", "orbit"] = "front_circle"
    """Where the camera flies: a ring in front of the scene, from left to right, from side to side with a nod, or once
    around."""
    interpolation: Annotated[int, Field(ge=0)] = 4
    """Scenes that the film of interpolated latent vectors passes, and comes back from; 0 = no film."""
    interpolation_frames: PositiveInt = 24
    """From one of them to the next."""
    crf: Annotated[int, Field(ge=1, le=51)] = 18
    """Quality of films, H.264's constant rate factor: 1 = best, 51 = worst."""
    meshes: Annotated[int, Field(ge=0)] = 1
    mesh_resolution: Annotated[int, Field(ge=8)] = 128


class ReportConfig(Section):
    """Stage `report`."""

    title: str = "3DGP"
