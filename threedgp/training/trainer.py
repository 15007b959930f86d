"""One training step of 3DGP: generator phase, discriminator phase, averages."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from threedgp.camera.geometry import CAMERA_FIELDS, cut_patches
from threedgp.camera.priors import prior_mean_angles
from threedgp.config import Config
from threedgp.config_fields import duration_kimg
from threedgp.data.loader import Batch
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Generator
from threedgp.models.saving import seeded_generator
from threedgp.training.average import update_average
from threedgp.training.blur import blur
from threedgp.training.camera_losses import (
    EMD_DRAWS,
    MEAN_DRAWS,
    emd_regulariser,
    gradient_regulariser,
    mean_angle_distance,
)
from threedgp.training.draws import Draws
from threedgp.training.losses import discriminator_loss, distillation_loss, generator_loss, r1_penalty
from threedgp.training.patches import Patches
from threedgp.training.schedules import ema_decay, ramp, scheduled


def build_networks(
    config: Config, num_classes: int, class_probabilities: list[float], num_features: int
) -> tuple[Generator, Discriminator]:
    """Both networks at their initialisation, a function of `train.seed` alone.

    Args:
        config: sizes.
        num_classes: in the data; ignored where the model is unconditional.
        class_probabilities: how often each occurs.
        num_features: width of the classifier features to predict, 0 = none.
    """
    if not config.model.class_conditional:
        num_classes, class_probabilities = 0, []
    if config.train.distillation.loss == "none":
        num_features = 0
    seed = config.train.seed
    generator = seeded_generator(config.camera, config.model, num_classes, class_probabilities, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        discriminator = Discriminator(
            config.model.discriminator,
            config.dataset.resolution,
            num_classes,
            num_features,
            depth=config.model.depth,
        )
    return generator, discriminator


class Trainer:
    """Networks, optimisers and the step. A function of its configuration, its data and the images shown so far."""

    def __init__(self, config: Config, networks: tuple[Generator, Discriminator], device: torch.device) -> None:
        self.config, self.device = config, device
        generator, discriminator = networks
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        train = config.train
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=train.generator_lr, betas=(0.0, 0.99), eps=1e-8, fused=True
        )
        # Lazy regularisation shows the discriminator r1_interval + 1 gradients in r1_interval steps; its learning rate
        # and betas make up for that (Karras et al. 2020, appendix B).
        ratio = train.r1_interval / (train.r1_interval + 1) if train.r1_gamma else 1.0
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=train.discriminator_lr * ratio,
            betas=(0.0, 0.99**ratio),
            eps=1e-8,
            fused=True,
        )
        self.images = 0
        """Real images shown so far."""

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def step_index(self) -> int:
        """Steps done so far."""
        return self.images // self.config.train.batch_size

    def _schedule(self, name: str) -> float:
        train = self.config.train
        return scheduled(getattr(train, name), self.images / 1000, train.kimg)

    def _draws(self, phase: str, count: int) -> Draws:
        index = torch.arange(self.images, self.images + count, device=self.device)
        return Draws(self.config, self.config.train.seed, phase, index)

    def _fakes(self, draws: Draws) -> tuple[Tensor, Patches, Tensor | None, Tensor]:
        """Fake patches `[B, 4, P, P]` (3 without depth), where they were cut, labels, and w."""
        resolution = self.config.model.discriminator.patch_resolution
        scenes, patches = draws.scenes(self.generator), draws.patches(self._schedule("patch_scale_beta"))
        synthesis = self.generator(
            *scenes,
            *patches,
            resolution,
            draws.rays(resolution**2, self._schedule("density_noise")),
            draws.backbone_noise(self.generator),
        )
        images = synthesis.rgb
        if synthesis.candidates is not None:
            depth = self.generator.depth_adaptor.select(
                synthesis.candidates, draws.uniform("depth candidate"), self._schedule("raw_depth_probability")
            )
            images = torch.cat([images, depth], dim=1)
        return images, patches, scenes.labels, synthesis.w

    def _judge(self, images: Tensor, patches: Patches, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.discriminator(blur(images, self._schedule("blur_sigma")), patches.parameters(), labels)

    # -----------------------------------------------------------------------------------------------------------------

    def _camera_loss(self, stats: dict[str, Tensor]) -> Tensor:
        """Both regularisers of the posterior, on draws of their own."""
        generator, config = self.generator, self.config.train.camera_regulariser
        scenes = Draws(
            self.config,
            self.config.train.seed,
            "camera regulariser",
            self.step_index * MEAN_DRAWS + torch.arange(MEAN_DRAWS, device=self.device),
        ).scenes(generator)
        prior = scenes.prior_cameras
        posterior = generator.posterior(prior, scenes.z, scenes.labels)
        distance = mean_angle_distance(posterior, prior_mean_angles(generator.camera_config))
        if config.kind == "emd":
            # The same prior draws on both sides: still the exact transport cost between the two sets, without the
            # noise that a second set of draws would add to the gradient.
            weight = ramp(self.images / 1000, duration_kimg(config.anneal, self.config.train.kimg))
            regulariser = weight * emd_regulariser(posterior[:EMD_DRAWS], prior[:EMD_DRAWS], config)
        else:
            z, labels = scenes.z[:EMD_DRAWS], scenes.labels[:EMD_DRAWS] if scenes.labels is not None else None
            regulariser = gradient_regulariser(
                lambda cameras: generator.posterior(cameras, z, labels), prior[:EMD_DRAWS], config
            )
        stats["camera/regulariser"], stats["camera/mean_angle_distance"] = regulariser, distance
        for field in ("yaw", "pitch", "fov", "look_at_radius"):
            column = posterior[:, CAMERA_FIELDS.index(field)]
            stats[f"camera/{field}_mean"], stats[f"camera/{field}_std"] = column.mean(), column.std()
        return regulariser + config.mean_angle_weight * distance

    def _generator_phase(self, stats: dict[str, Tensor]) -> None:
        self.discriminator.requires_grad_(False)
        fakes, patches, labels, w = self._fakes(self._draws("generator", self.config.train.batch_size))
        logits, _ = self._judge(fakes, patches, labels)
        loss = generator_loss(logits)
        stats["generator/loss"] = loss
        if self.generator.camera_generator is not None:
            loss = loss + self._camera_loss(stats)
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator.requires_grad_(True)
        self.generator_optimizer.step()
        self.generator.mapping.track_average(w, self.config.train.w_average_decay)

    def _real_patches(self, batch: Batch, draws: Draws) -> tuple[Tensor, Patches]:
        images = batch.image.to(self.device).float() / 127.5 - 1
        if self.config.model.depth:
            images = torch.cat([images, batch.depth.to(self.device)], dim=1)
        if self.config.train.horizontal_flips:
            flip = draws.uniform("flip") < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        patches = draws.patches(self._schedule("patch_scale_beta"))
        return cut_patches(images, self.config.model.discriminator.patch_resolution, *patches), patches

    def _discriminator_phase(self, batch: Batch, stats: dict[str, Tensor]) -> None:
        train, count = self.config.train, self.config.train.batch_size
        with torch.no_grad():
            fakes, fake_patches, fake_labels, _ = self._fakes(self._draws("discriminator", count))
        reals, patches = self._real_patches(batch, self._draws("real", count))
        labels = batch.label.to(self.device) if self.discriminator.num_classes else None

        # Groups of the minibatch standard deviation are contiguous, so that one pass over both halves is two passes.
        both = Patches(*(torch.cat(pair) for pair in zip(fake_patches, patches, strict=True)))
        both_labels = None if labels is None else torch.cat([fake_labels, labels])
        logits, features = self._judge(torch.cat([fakes, reals]), both, both_labels)
        fake_logits, real_logits = logits.split(count)
        loss = discriminator_loss(real_logits, fake_logits)
        stats["discriminator/loss"] = loss
        stats["discriminator/real_sign"] = real_logits.detach().sign().mean()
        stats["discriminator/fake_sign"] = fake_logits.detach().sign().mean()
        if features is not None:
            distance = distillation_loss(
                features[count:],
                batch.embedding.to(self.device),
                patches.scales[:, 0],
                train.distillation.loss,
            )
            weight = scheduled(train.distillation.weight, self.images / 1000, train.kimg)
            loss = loss + weight * distance
            stats["discriminator/distillation"] = distance
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if train.r1_gamma and self.step_index % train.r1_interval == 0:
            reals = reals.requires_grad_()
            real_logits, _ = self._judge(reals, patches, labels)
            penalty = r1_penalty(real_logits, reals, train.r1_gamma)
            (penalty * train.r1_interval).backward()
            stats["discriminator/r1"] = penalty
        self.discriminator_optimizer.step()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on a batch of real images.

        Returns:
            scalars of this step, detached, still on the device.
        """
        stats: dict[str, Tensor] = {}
        self._generator_phase(stats)
        self._discriminator_phase(batch, stats)
        train = self.config.train
        decay = ema_decay(self.images, train.batch_size, train.ema_half_life, train.ema_ramp_up, train.kimg)
        update_average(self.average, self.generator, decay)
        self.images += train.batch_size
        return {name: value.detach() for name, value in stats.items()}

    def schedules(self) -> dict[str, float]:
        """Current values of the schedules and of the learned near plane, for the log."""
        values = {
            f"schedule/{name}": self._schedule(name)
            for name in ("density_noise", "blur_sigma", "patch_scale_beta", "raw_depth_probability")
        }
        if self.generator.depth_adaptor is not None:
            values["generator/near_offset"] = self.generator.depth_adaptor.near_offset().item()
        return values

    # -----------------------------------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {"images": self.images} | {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.images = state["images"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
