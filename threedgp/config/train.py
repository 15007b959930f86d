"""Section `train` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from threedgp.config.fields import Duration, Fraction, NonNegative, PositiveInt, Section, Seed


class CameraRegularizerConfig(Section):
    """Keeps the posterior cameras from collapsing."""

    kind: Literal["emd", "gradient"] = "emd"
    origin_weight: NonNegative = 2.0
    """Weight of yaw and of pitch (`gradient`: published starting value 0.3)."""
    fov_weight: NonNegative = 1e-4
    """(`gradient`: 0.03)"""
    look_at_weight: NonNegative = 1e-4
    """(`gradient`: 0.003)"""
    anneal: Duration = "10000"
    """Ramp of the weights from 0 to 1 (`emd`)."""
    mean_angle_weight: NonNegative = 10.0
    """Weight of the distance between the mean posterior angles and the prior's."""


class ScheduleConfig(Section):
    """A value that moves linearly from `start` to `end` and then stays."""

    start: float
    end: float
    over: Duration


class DistillationConfig(Section):
    """Knowledge distillation into the discriminator's second head."""

    loss: Literal["none", "l2", "kl"] = "l2"
    weight: ScheduleConfig = ScheduleConfig(start=1.0, end=0.0, over="100000")


class TrainConfig(Section):
    """Stage `train`."""

    kimg: Annotated[float, Field(gt=0)] = 25000
    """Length of the run in thousands of real images shown to the discriminator."""
    batch_size: PositiveInt = 64
    accumulation: PositiveInt = 1
    """Pieces into which each process cuts its share of a batch, one after the other, to save memory."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """tf32: rounded products on GPUs. bf16: activations of backbone and discriminator; the rest is float32."""
    seed: Seed = 0
    generator_lr: Annotated[float, Field(gt=0)] = 0.0025
    discriminator_lr: Annotated[float, Field(gt=0)] = 0.002
    r1_gamma: NonNegative = 0.05
    r1_interval: PositiveInt = 16
    """Steps between two R1 penalties (each then counts `r1_interval` times)."""
    ema_half_life: Duration = "20"
    ema_ramp_up: NonNegative = 0.05
    """The half-life is at most this share of the images shown so far; 0 = no ramp."""
    w_average_decay: Fraction = 0.998
    horizontal_flips: bool = True
    density_noise: ScheduleConfig = ScheduleConfig(start=1.0, end=0.0, over="5000")
    blur_sigma: ScheduleConfig = ScheduleConfig(start=10.0, end=0.0, over="200")
    patch_scale_min: Annotated[float, Field(gt=0, le=1)] = 0.25
    patch_scale_beta: ScheduleConfig = ScheduleConfig(start=0.001, end=0.8, over="10000")
    raw_depth_probability: ScheduleConfig = ScheduleConfig(start=0.25, end=0.1, over="10000")
    """Probability that a fake shows the adaptor's first candidate, the scaled depth itself."""
    fake_labels: Literal["data", "balanced"] = "data"
    """Classes of fakes: as often as in the data, or all equally often."""
    camera_regularizer: CameraRegularizerConfig = CameraRegularizerConfig()
    distillation: DistillationConfig = DistillationConfig()
    tick_kimg: Annotated[float, Field(gt=0)] = 4.0
    """Thousands of images between two lines of the log."""
    save_kimg: Annotated[float, Field(gt=0)] = 40.0
    """Thousands of images between two saved states."""
    keep_states: PositiveInt = 2
    """Newest saved states that are kept."""
    archive_kimg: NonNegative = 1000.0
    """Every so many thousands of images a saved state is kept for good; 0 = never."""
    pictures_kimg: NonNegative = 200.0
    """Thousands of images between two grids of generated pictures; 0 = none."""
    metric_kimg: NonNegative = 200.0
    """Thousands of images between two measurements of the averaged generator; 0 = none."""
    metric_samples: PositiveInt = 2048
    """Pictures of a measurement."""
    best_by: Literal["frechet", "swd"] = "frechet"
    """Which distance says what model is best: Frechet on the features of `features`, or sliced Wasserstein."""
    publish: Literal["best", "last"] = "best"
    """Which averaged generator becomes the model."""
    metric_explosion_factor: NonNegative = 4.0
    """The distance of `best_by` beyond this multiple of its best value is a divergence; 0 = it never is."""
    explosion_factor: NonNegative = 100.0
    """A loss or gradient norm above this multiple of what is usual has exploded; 0 = only NaN and infinity count."""
    max_rollbacks: Annotated[int, Field(ge=0)] = 5
    """How often a run that diverges is taken back to an earlier state before it ends with an error."""
