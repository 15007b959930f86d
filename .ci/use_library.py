"""One training step of preset toy and a rendering by every backend: `use_library.py FOLDER BACKEND ...`.

Writes the model to FOLDER. Backends that are named have to render, all others have to say why they are not available.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import torch

import threedgp
from threedgp.camera.geometry import rays
from threedgp.commands.preset import preset_values
from threedgp.config import parse_config
from threedgp.data.loader import Batch
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_networks
from threedgp.models.sampler import sample_scenes
from threedgp.models.saving import save_model
from threedgp.render import Backend, midpoint_randomness, render_rays
from threedgp.training.step import Trainer

CLASSES, FEATURES = 2, 16


def train(folder: Path) -> Generator:
    """The generator after one training step, which is also saved to `folder`."""
    config = parse_config(preset_values("toy"))
    count, size = config.train.batch_size, config.dataset.resolution
    batch = Batch(
        image=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8),
        depth=torch.randint(-(2**15), 2**15, (count, 1, size, size), dtype=torch.int16),
        embedding=torch.randn(count, FEATURES),
        label=torch.randint(0, CLASSES, (count,)),
        index=torch.arange(count),
    )
    trainer = Trainer(config, initial_networks(config, CLASSES, [1 / CLASSES] * CLASSES, FEATURES), torch.device("cpu"))
    losses = trainer.step(batch)
    print(f"training step: {len(losses)} numbers")
    save_model(folder, trainer.average, config, class_names=["box", "ball"], kimg=0)
    return trainer.average.eval()


@torch.inference_mode()
def render(generator: Generator, available: list[str]) -> None:
    """Render a scene by every backend, and compare it with the plain composition."""
    scenes = sample_scenes(generator, 1, 0)
    planes = generator.make_content(generator.map(scenes.z, scenes.labels))
    origins, directions = rays(generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels), 16)
    randomness = midpoint_randomness(1, origins.shape[1], 8, 8, origins)
    arguments = (planes, generator.decoder.effective(), origins, directions, randomness, generator.ray_settings)
    expected = render_rays(*arguments, backend="torch")
    for backend in get_args(Backend):
        try:
            seen = render_rays(*arguments, backend=backend)
        except ValueError as error:
            assert backend not in available, error
            print(f"backend {backend}: {error}")
            continue
        assert backend in available, f"backend {backend} rendered"
        torch.testing.assert_close(seen.rgb, expected.rgb, rtol=1e-3, atol=1e-3)
        print(f"backend {backend}: rendered")


print(threedgp.__file__)
folder, *available = sys.argv[1:]
render(train(Path(folder)), available)
