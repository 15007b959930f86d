"""The camera generator: what the field of view of a posterior camera depends on."""

from __future__ import annotations

import torch

from threedgp.camera.geometry import FOV
from threedgp.models.sampler import sample_scenes
from training.worlds import CLASSES, make_trainer, tiny_config


def test_field_of_view_depends_on_the_class_and_on_the_prior() -> None:
    """With all else equal, so that the prior of a class can be kept or corrected for this class alone."""
    generator = make_trainer(tiny_config(camera={"prior": "estimated"})).average
    scenes = sample_scenes(generator, 1, 0)
    z, camera = scenes.z.expand(CLASSES, -1), scenes.prior_cameras.expand(CLASSES, -1)
    with torch.no_grad():
        by_class = generator.posterior(camera, z, torch.arange(CLASSES))[:, FOV]
        wider = camera.clone()
        wider[:, FOV] += torch.arange(CLASSES)
        by_prior = generator.posterior(wider, z, torch.zeros(CLASSES, dtype=torch.int64))[:, FOV]
    assert torch.unique(by_class).numel() == torch.unique(by_prior).numel() == CLASSES
