"""Section `train` of ``params.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from threedgp.config.fields import (
    BatchSize,
    Count,
    Duration,
    Fraction,
    Integer,
    NonNegative,
    Positive,
    Section,
    Seed,
    Text,
)


class CameraRegularizerConfig(Section):
    """Keeps the posterior camera distribution from collapsing (3DGP, section 3.3)."""

    kind: Literal["emd", "gradient"] = "emd"
    """`emd`: earth mover's distance to the prior; `gradient`: penalty on small and large derivatives by the prior."""
    yaw_weight: NonNegative = 2.0
    """Weight of the yaw; for `gradient`, 0.3 is published."""
    pitch_weight: NonNegative = 2.0
    """Weight of the pitch; for `gradient`, 0.3 is published."""
    fov_weight: NonNegative = 1e-4
    """Weight of the field of view; for `gradient`, 0.03."""
    look_at_weight: NonNegative = 1e-4
    """Weight of the look-at point; for `gradient`, 0.003."""
    anneal: Duration = "10000"
    """`emd`: length of the linear ramp of the weights from 0."""
    mean_angle_weight: NonNegative = 10.0
    """Weight of the distance between the mean angles of posterior and prior."""


class ScheduleConfig(Section):
    """A value that changes linearly from `start` to `end` over `over` and is constant from then on."""

    start: Annotated[float, Field(ge=0, le=1000)]
    end: Annotated[float, Field(ge=0, le=1000)]
    over: Duration


SigmaRel = Annotated[float, Field(ge=0.005, le=0.28)]
"""Length of an average of weights; 0.289 is the mean over the whole run."""


class PosthocEmaConfig(Section):
    """Averages of the generator's weights from which one of any length can be reconstructed after training (EDM2)."""

    snapshot_kimg: NonNegative = 0.0
    """Interval of snapshots of the averages, in thousands of images; 0 = none, and nothing is tracked."""
    sigma_rels: Annotated[tuple[SigmaRel, ...], Field(min_length=1, max_length=8)] = (0.05, 0.1)
    """Lengths of the tracked averages: standard deviation of their weights over time, as a fraction of the time so far.
    """
    sigma_rel: SigmaRel = 0.1
    """Length of the average that `publish: posthoc` reconstructs at the end of the run."""


class DistillationConfig(Section):
    """Distillation of classifier features into the second head of the discriminator (3DGP, section 3.4)."""

    loss: Literal["none", "l2", "kl"] = "l2"
    weight: ScheduleConfig = ScheduleConfig(start=1.0, end=0.0, over="100000")


INITIALIZATION = "threedgp/models/initialization.py"
"""Value of `train.init_from` for random weights. DVC needs a path that exists."""
OUTPUTS = "results"


def _model_folder(value: str) -> str:
    if re.match(r"~|\w+://", value):
        raise ValueError(f"'{value}' is not a path; download the model first, and name its folder")
    if Path(value).parts[:1] == (OUTPUTS,):
        raise ValueError(f"'{value}' is an output of this pipeline; copy the model to another folder, such as models/")
    return value


class TrainConfig(Section):
    """Stage `train`."""

    init_from: Annotated[Text, Field(min_length=1), AfterValidator(_model_folder)] = INITIALIZATION
    """Folder of a model whose weights training starts from; the code of the initialization means random weights."""
    freeze: tuple[
        Literal[
            "mapping",
            "backbone",
            "decoder",
            "background_decoder",
            "depth_adaptor",
            "camera_generator",
            "discriminator_blocks",
        ],
        ...,
    ] = ()
    """Parts that keep their weights."""

    kimg: Positive = 25000
    """Length of the run in thousands of real images shown to the discriminator."""
    batch_size: BatchSize = 64
    accumulation: BatchSize = 1
    """Gradient accumulation: number of pieces into which each process divides its part of a batch, to save memory."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """`tf32`: TF32 convolutions on GPUs. `bf16`: activations of backbone and discriminator; the rest is float32."""
    compile: bool = False
    """Whether backbone (if there is one) and discriminator are compiled by `torch.compile`; R1 and R2 are not."""
    seed: Seed = 0
    generator_lr: Positive = 0.0025
    discriminator_lr: Positive = 0.002
    lr_decay: Duration = "0"
    """Length of the linear decay of both learning rates to 0 at the end of the run."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay per step of Adam's second moments. Short runs learn faster with 0.9, whose moments follow the gradients
    sooner."""
    loss: Literal["logistic", "relativistic"] = "logistic"
    """`logistic`: non-saturating loss and R1, as published. `relativistic`: pairs of a real and a generated patch of
    the same class and position are compared, with R1 and R2 (R3GAN); `fake_labels` then has no effect."""
    r1_gamma: NonNegative = 0.05
    """Weight of the gradient penalty on real patches (R1), and with `relativistic` on generated ones (R2)."""
    r1_interval: Count = 16
    """Steps between two R1 penalties; each is weighted by `r1_interval`."""
    ema_half_life: Duration = "20"
    """Half-life of the exponential moving average of the generator's weights."""
    ema_ramp_up: NonNegative = 0.05
    """The half-life is at most this fraction of the images shown so far; 0 = no ramp."""
    posthoc_ema: PosthocEmaConfig = PosthocEmaConfig()
    w_average_decay: Fraction = 0.998
    """Decay per step of the average intermediate latent code, which truncation needs."""
    horizontal_flips: bool = True
    density_noise: ScheduleConfig = ScheduleConfig(start=1.0, end=0.0, over="5000")
    """Standard deviation of the noise that is added to raw densities."""
    blur_sigma: ScheduleConfig = ScheduleConfig(start=10.0, end=0.0, over="200")
    """Half width at half maximum, in pixels, of the blur of real and generated images."""
    patch_scale_min: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Minimum side of a patch, as a fraction of the image's side."""
    patch_scale_beta: ScheduleConfig = ScheduleConfig(start=0.001, end=0.8, over="10000")
    """Parameter b of the distribution Beta(1, b) of patch scales: small = whole images, large = small patches."""
    raw_depth_probability: ScheduleConfig = ScheduleConfig(start=0.25, end=0.1, over="10000")
    """`depth_adaptor.mode: all`: probability that a fake shows the scaled depth itself, not the adaptor's output."""
    pose_swap: ScheduleConfig = ScheduleConfig(start=1.0, end=0.5, over="1000")
    """`model.generator.pose_conditioning`: probability that the mapping network sees another camera than the one that
    the scene is rendered from."""
    novel_view: NonNegative = 0.0
    """Weight of the difference between views from outside of the prior of cameras and what views at its edge show of
    them."""
    density_regularization: NonNegative = 0.0
    """Weight of the mean difference of density between points of the scene and points close to them (EG3D)."""
    nerf_path_regularization: NonNegative = 0.0
    """Weight of the difference between pixels of the image and the field's color along their rays (StyleNeRF)."""
    growing: ScheduleConfig = ScheduleConfig(start=1.0, end=1.0, over="0")
    """Part of the blocks behind the renderer that is in use (StyleNeRF); real images lose details accordingly."""
    fake_labels: Literal["data", "balanced"] = "data"
    """Classes of fakes: distributed as in the data, or uniformly."""
    camera_regularizer: CameraRegularizerConfig = CameraRegularizerConfig()
    distillation: DistillationConfig = DistillationConfig()
    tick_kimg: Positive = 4.0
    """Interval of log entries, in thousands of images."""
    save_kimg: Positive = 40.0
    """Interval of checkpoints, in thousands of images."""
    keep_states: Count = 2
    """Number of most recent checkpoints that are kept."""
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Logs beside those of DVCLive, in ``results/training``; each needs the package of its name. wandb is offline
    unless WANDB_MODE says otherwise."""
    archive_kimg: NonNegative = 1000.0
    """Interval of checkpoints that are kept until the run ends, in thousands of images; 0 = none."""
    pictures_kimg: NonNegative = 200.0
    """Interval of grids of generated images, in thousands of images; 0 = none."""
    metric_kimg: NonNegative = 200.0
    """Interval of measurements of the averaged generator, in thousands of images; 0 = none."""
    metric_samples: Count = 2048
    """Generated images per measurement."""
    best_by: Literal["frechet", "swd"] = "frechet"
    """Distance that selects the best model: Frechet distance on the network of `features`, or sliced Wasserstein."""
    publish: Literal["best", "last", "posthoc"] = "best"
    """Which averaged generator becomes the output of the stage; `posthoc`: that of `posthoc_ema.sigma_rel`."""
    metric_explosion_factor: NonNegative = 4.0
    """Training has diverged if the distance of `best_by` exceeds this multiple of its best value; 0 = not checked."""
    explosion_factor: NonNegative = 100.0
    """Training has diverged if a loss or gradient norm exceeds this multiple of its usual value; 0 = NaN or infinity
    only."""
    max_rollbacks: Annotated[Integer, Field(ge=0, le=10**8)] = 5
    """Number of times that diverged training goes back to an earlier checkpoint before it ends with an error."""
