"""One training step: generator phase, discriminator phase, averages."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from threedgp.camera.geometry import Patches, cut_patches
from threedgp.camera.normals import relief_normals
from threedgp.config import Config, batch_problem
from threedgp.data.loader import DEPTH_UNIT, Batch
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Fakes, Generator
from threedgp.runtime.errors import UserError
from threedgp.runtime.precision import exact_convolutions, use_precision
from threedgp.training.distributed import SINGLE_PROCESS, TrainingGroup
from threedgp.training.draws import Draws
from threedgp.training.logging import CameraHistograms
from threedgp.training.losses import (
    MEAN_DRAWS,
    camera_loss,
    discriminator_loss,
    distillation_loss,
    generator_loss,
    gradient_penalty,
)
from threedgp.training.patches import blur
from threedgp.training.posthoc import PowerAverages
from threedgp.training.schedules import MovingAverage, duration_kimg, ema_decay, ramp, scheduled

Stats = dict[str, Tensor]
"""Scalars of a step by name."""
PARTS = (
    "camera_histograms",
    "generator",
    "average",
    "power_averages",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
)
"""Attributes of a trainer that have a state."""


class DiscriminatorInput(NamedTuple):
    """Input of the discriminator: generated or real patches."""

    images: Tensor
    """`[B, 4, P, P]` in [-1, 1]; other numbers of channels as in `Discriminator.forward`."""
    patches: Patches
    labels: Tensor | None
    """int64 `[B]`, None without classes."""

    def followed_by(self, other: DiscriminatorInput) -> DiscriminatorInput:
        """These patches and `other` ones in one batch."""
        patches = Patches(*(torch.cat(pair) for pair in zip(self.patches, other.patches, strict=True)))
        labels = None if self.labels is None else torch.cat([self.labels, other.labels])
        return DiscriminatorInput(torch.cat([self.images, other.images]), patches, labels)


def _split(batch: Batch, size: int) -> list[Batch]:
    columns = [getattr(batch, field.name).split(size) for field in fields(batch)]
    return [Batch(*rows) for rows in zip(*columns, strict=True)]


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that `optimizer` trains; faster than `Module.parameters`, which visits every module."""
    return optimizer.param_groups[0]["params"]


def _adam(parameters: Iterable[nn.Parameter], lr: float, beta2: float, lazy_ratio: float = 1.0) -> torch.optim.Adam:
    """Adam of StyleGAN2. `lazy_ratio` scales learning rate and betas as there: r1_interval / (r1_interval + 1), because
    the lazy penalty takes additional steps (Karras et al. 2020, appendix B). Here it shares the steps of the loss; the
    factor is kept, since the published learning rates were chosen with it."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    fused = parameters[0].device.type != "meta"  # it has no fused operators
    return torch.optim.Adam(parameters, lr=lr * lazy_ratio, betas=(0.0, beta2**lazy_ratio), eps=1e-8, fused=fused)


def freeze(generator: Generator, discriminator: Discriminator, parts: Sequence[str]) -> None:
    """Exclude the `parts` of `train.freeze` from training. Raises UserError if the model does not have one of them, or
    nothing of the generator is left."""
    for part in parts:
        if part == "discriminator_blocks":
            modules = [discriminator.from_rgb, discriminator.blocks]
        else:
            names = ("decoder", "output") if part == "decoder" else (part,)  # `volumegan` has an output of its own
            modules = [module for name in names if (module := getattr(generator, name, None)) is not None]
        if not modules:
            raise UserError(f"train.freeze: this model has no {part}; remove it from the list.")
        for module in modules:
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise UserError("train.freeze: nothing of the generator is left to train; remove a part from the list.")


class Trainer:
    """Networks, optimizers and the training step.

    The weights are a function of the configuration, the data and the number of images shown so far. Each process works
    on its share of a batch in `train.accumulation` pieces of equal size. Quantities of the whole batch (mean patch
    scale, mean of w, cameras, gradients) do not depend on the number of pieces and processes.
    """

    def __init__(
        self,
        config: Config,
        networks: tuple[Generator, Discriminator],
        device: torch.device,
        group: TrainingGroup = SINGLE_PROCESS,
    ) -> None:
        """`networks` are generator and discriminator at their initialization, the same in every process; random numbers
        have their dtype. Raises UserError if the batch cannot be split into whole groups of the minibatch standard
        deviation, or `train.freeze` names a part that the model lacks."""
        self.config, self.device, self.group = config, device, group
        problem = batch_problem(config, group.size)
        if problem:
            raise UserError(f"{problem}; change the batch, or machine.processes.")
        self.piece = config.train.batch_size // (group.size * config.train.accumulation)
        """Samples of a piece."""
        first = group.rank * config.train.accumulation
        self._offsets = [(first + number) * self.piece for number in range(config.train.accumulation)]
        """Position in the batch of the first sample of each piece."""
        self._share = self.piece / config.train.batch_size
        """Weight of the mean over a piece in the mean over the batch."""
        generator, discriminator = networks
        freeze(generator, discriminator, config.train.freeze)
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self._moving_average = MovingAverage(self.average, self.generator)
        posthoc = config.train.posthoc_ema
        self.power_averages = PowerAverages(self.generator, posthoc.sigma_rels if posthoc.snapshot_kimg else ())
        if config.train.compile:
            for network in filter(None, (self.generator.backbone, self.discriminator)):
                network.compile(dynamic=False)  # in place, so that parameters keep their names
        train = config.train
        self.generator_optimizer = _adam(self.generator.parameters(), train.generator_lr, train.adam_beta2)
        lazy_ratio = train.r1_interval / (train.r1_interval + 1) if train.r1_gamma else 1.0
        self.discriminator_optimizer = _adam(
            self.discriminator.parameters(), train.discriminator_lr, train.adam_beta2, lazy_ratio
        )
        self.camera_histograms = CameraHistograms(config.camera, device)
        self.images = 0
        """Real images shown so far."""
        self.stream = 0
        """Number of the random stream: how often the run was rolled back to an earlier state."""
        self.dtype = generator.dtype
        self.activations = use_precision(config.train.precision)
        """Dtype of the activations of backbone and discriminator; None = that of their weights."""

    @property
    def step_index(self) -> int:
        """Number of steps taken so far."""
        return self.images // self.config.train.batch_size

    def _set_learning_rates(self) -> None:
        train = self.config.train
        left = (train.kimg * 1000 - self.images) / 1000
        factor = ramp(left, duration_kimg(train.lr_decay, train.kimg))
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * factor

    def _schedule(self, name: str) -> float:
        """Current value of a setting of `train`, which may be a schedule; of `distillation_weight`; or of
        `camera_regularizer`, the factor of kind `emd`."""
        train, kimg = self.config.train, self.images / 1000
        if name == "camera_regularizer":
            return ramp(kimg, duration_kimg(train.camera_regularizer.anneal, train.kimg))
        schedule = train.distillation.weight if name == "distillation_weight" else getattr(train, name)
        if isinstance(schedule, float):
            return schedule
        return scheduled(schedule, kimg, train.kimg)

    def _draws(self, phase: str, first: int, count: int) -> Draws:
        """Draws for the samples `first` to `first + count - 1`, counted from the start of the run."""
        index = torch.arange(first, first + count, device=self.device)
        return Draws(self.config, phase, index, stream=self.stream, dtype=self.dtype)

    def _pieces(self, phase: str) -> Iterator[Draws]:
        """Draws for each piece of this process's share of the batch."""
        for offset in self._offsets:
            yield self._draws(phase, self.images + offset, self.piece)

    def _record(self, stats: Stats, name: str, value: Tensor) -> None:
        """Add the mean over a piece to the mean over this process's share of the batch."""
        value = value.detach() / len(self._offsets)
        stats[name] = stats[name] + value if name in stats else value

    def _update(self, name: str, optimizer: torch.optim.Optimizer, stats: Stats, *others: Tensor) -> None:
        """Sum the gradients and `others` over all processes, and take a step of the optimizer."""
        gradients = [p.grad for p in _parameters(optimizer) if p.grad is not None]
        self.group.sum([*gradients, *others])
        stats[f"{name}/gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
        optimizer.step()

    def _discriminator_input(self, images: Tensor, patches: Patches, labels: Tensor | None) -> DiscriminatorInput:
        """Patches as the discriminator sees them: with normals behind depth, if it sees normals."""
        if self.config.model.discriminator.normals:
            images = torch.cat([images, relief_normals(images[:, 3:], patches.scales)], dim=1)
        return DiscriminatorInput(images, patches, labels)

    def _fakes(self, draws: Draws, pairs: DiscriminatorInput | None = None) -> tuple[DiscriminatorInput, Fakes]:
        """Patches of generated images, and all that the generator returned. With `pairs`, the patches have the classes
        and positions of these real ones."""
        scenes = draws.scenes(self.generator, pairs and pairs.labels)
        patches = pairs.patches if pairs else draws.patches(self._schedule("patch_scale_beta"))
        fakes = self.generator.fakes(scenes, patches, draws, self._schedule, self.activations)
        return self._discriminator_input(fakes.images, patches, scenes.labels), fakes

    def _judge(
        self, seen: DiscriminatorInput, dtype: torch.dtype | None, *, twice_differentiable: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Logits and predicted classifier features of patches, see `Discriminator.forward`, after the blur of
        `train.blur_sigma`."""
        images = blur(seen.images, self._schedule("blur_sigma"))
        # `forward` is never compiled: compiled code can be differentiated once.
        discriminator = self.discriminator.forward if twice_differentiable else self.discriminator
        return discriminator(images, seen.patches.parameters(), seen.labels, dtype)

    def _camera_loss(self, stats: Stats) -> Tensor:
        """Regularizers of the posterior cameras, on draws of their own that are the same in every process."""
        draws = self._draws("camera regularizer", self.step_index * MEAN_DRAWS, MEAN_DRAWS)
        config = self.config.train.camera_regularizer
        scenes, factor = draws.scenes(self.generator), self._schedule("camera_regularizer")
        loss, camera_stats, posterior = camera_loss(self.generator, scenes, config, factor)
        stats |= camera_stats
        self.camera_histograms.add(posterior)
        return loss

    def _reals(self, batch: Batch) -> Iterator[tuple[DiscriminatorInput, Tensor, Tensor]]:
        """Real patches of each piece of this process's share of the batch, classifier features `[B, E]` of their whole
        images, and the mean scale of the patches of the whole batch, of all processes."""
        batch_draws = self._draws("real", self.images, self.config.train.batch_size)
        batch_patches = batch_draws.patches(self._schedule("patch_scale_beta"))
        mean_scale = batch_patches.scales[:, 0].mean()
        for offset, draws, rows in zip(self._offsets, self._pieces("real"), _split(batch, self.piece), strict=True):
            # Copied to the device as uint8, which has fewer bytes.
            images = rows.image.to(self.device).to(self.dtype) / 127.5 - 1
            if self.config.model.depth:
                images = torch.cat([images, rows.depth.to(self.device).to(self.dtype) * DEPTH_UNIT], dim=1)
            if self.config.train.horizontal_flips:
                flip = draws.uniform("flip") < 0.5
                images = torch.where(flip[:, None, None, None], images.flip(-1), images)
            patches = Patches(*(column[offset : offset + self.piece] for column in batch_patches))
            images = cut_patches(images, self.config.model.discriminator.patch_resolution, patches)
            images = self.discriminator.real_input(images, self._schedule("growing"))
            labels = rows.label.to(self.device) if self.discriminator.num_classes else None
            seen = self._discriminator_input(images, patches, labels)
            yield seen, rows.embedding.to(self.device, self.dtype), mean_scale

    def _generator_phase(self, batch: Batch, stats: Stats) -> None:
        """Take a step of the generator: adversarial loss, penalties of its kind, and regularizers of the cameras."""
        for parameter in _parameters(self.discriminator_optimizer):
            parameter.requires_grad_(False)
        w_mean = torch.zeros_like(self.generator.mapping.w_average)
        relativistic = self.config.train.loss == "relativistic"
        all_pairs = (seen for seen, *_ in self._reals(batch)) if relativistic else repeat(None, len(self._offsets))
        for draws, pairs in zip(self._pieces("generator"), all_pairs, strict=True):
            fakes, (_, w, penalties, scalars) = self._fakes(draws, pairs)
            logits, _ = self._judge(fakes, self.activations)
            loss = generator_loss(logits, self._judge(pairs, self.activations)[0] if pairs else None)
            self._record(stats, "generator/loss", loss)
            for name, value in {**penalties, **scalars}.items():
                self._record(stats, f"generator/{name}", value)
            (sum(penalties.values(), loss) * self._share).backward()
            w_mean += w.detach().mean(dim=0) * self._share
        if self.generator.camera_generator is not None:
            loss = self._camera_loss(stats)
            if loss.requires_grad:  # not if the camera generator is frozen
                (loss / self.group.size).backward()
        for parameter in _parameters(self.discriminator_optimizer):
            parameter.requires_grad_(True)
        self._update("generator", self.generator_optimizer, stats, w_mean)
        self.generator.mapping.track_average(w_mean[None], self.config.train.w_average_decay)

    def _gradient_penalty(self, name: str, seen: DiscriminatorInput, stats: Stats) -> None:
        """Add the gradients of the lazy gradient penalty on real (`r1`) or generated (`r2`) patches to those of the
        loss."""
        train = self.config.train
        with exact_convolutions():  # the penalty squares gradients, which needs full precision
            seen.images.requires_grad_()
            logits, _ = self._judge(seen, None, twice_differentiable=True)
            penalty = gradient_penalty(logits, seen.images, train.r1_gamma)
            (penalty * (train.r1_interval * self._share)).backward()
        self._record(stats, f"discriminator/{name}", penalty)

    def _discriminator_phase(self, batch: Batch, stats: Stats) -> None:
        """Take a step of the discriminator: adversarial loss, distillation, and every `train.r1_interval`-th time the
        gradient penalty."""
        train = self.config.train
        pieces = zip(self._pieces("discriminator"), self._reals(batch), strict=True)
        for draws, (reals, stored, mean_scale) in pieces:
            with torch.no_grad():
                fakes, _ = self._fakes(draws, reals if train.loss == "relativistic" else None)
            # One pass is enough: groups of the minibatch standard deviation are contiguous and do not mix the halves.
            logits, features = self._judge(fakes.followed_by(reals), self.activations)
            fake_logits, real_logits = logits.split(self.piece)
            loss = discriminator_loss(real_logits, fake_logits, train.loss)
            self._record(stats, "discriminator/loss", loss)
            self._record(stats, "discriminator/real_sign", real_logits.sign().mean())
            self._record(stats, "discriminator/fake_sign", fake_logits.sign().mean())
            if features is not None:
                predicted, scales = features[self.piece :], reals.patches.scales[:, 0]
                distance = distillation_loss(predicted, stored, scales, mean_scale, train.distillation.loss)
                loss = loss + self._schedule("distillation_weight") * distance
                self._record(stats, "discriminator/distillation", distance)
            (loss * self._share).backward()
            if train.r1_gamma and self.step_index % train.r1_interval == 0:
                self._gradient_penalty("r1", reals, stats)
                if train.loss == "relativistic":
                    self._gradient_penalty("r2", fakes, stats)
        self._update("discriminator", self.discriminator_optimizer, stats)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on this process's share of a batch of real images. Returns scalars of this step, detached, on
        the device: means over this process's share of the batch, and gradient norms of the whole batch. Raises
        UserError if the networks cannot be compiled."""
        stats: Stats = {}
        self._set_learning_rates()
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.zero_grad(set_to_none=True)
        try:
            self._generator_phase(batch, stats)
            self._discriminator_phase(batch, stats)
        except TorchDynamoException as error:
            reason = " ".join(str(error).partition("\n\n")[0].split())[:300]
            raise UserError(f"train.compile: torch.compile failed ({reason}); set it to false.") from error
        train = self.config.train
        decay = ema_decay(self.images, train.batch_size, train.ema_half_life, train.ema_ramp_up, train.kimg)
        self._moving_average.update(decay)
        self.images += train.batch_size
        self.power_averages.update(self.step_index)
        return stats

    def schedules(self) -> dict[str, float]:
        """Current values of the schedules and of the learned near offset, for the log."""
        names = ["blur_sigma", "patch_scale_beta", *self.generator.schedules]
        if self.generator.camera_generator is not None and self.config.train.camera_regularizer.kind == "emd":
            names.append("camera_regularizer")
        if self.discriminator.feature_head is not None:
            names.append("distillation_weight")
        values = {f"schedule/{name}": self._schedule(name) for name in names}
        if self.generator.depth_adaptor is not None:
            values["generator/near_offset"] = self.generator.depth_adaptor.near_offset().item()
        return values

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on."""
        counters = {"images": self.images, "stream": self.stream}
        return counters | {name: getattr(self, name).state_dict() for name in PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.images, self.stream = state["images"], state["stream"]
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
