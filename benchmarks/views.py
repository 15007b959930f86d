"""The view that generated images show, beside the camera that rendered them.

The camera of an image is partly a matter of convention: a class may face another way, or the ground of all scenes may
rise towards the middle. A network that learns yaw and pitch from real images with true cameras reads both from
generated images, whatever the convention. For each model this prints

- the Wasserstein distance between its views and those of held-out real images, read by the same network,
- the standard deviation of its views, and
- alignment: the length of the mean of exp(i (shown yaw - yaw of the camera)) in a class, averaged over classes. It is 1
  if view and camera differ by a constant in each class, and near 0 for cameras of other images.

Run it in a project with a data set of source `procedural`: `python benchmarks/views.py results/model demo`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from threedgp import load
from threedgp.camera.geometry import PITCH, YAW
from threedgp.config import load_config
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.evaluation.real_images import RealImages, draw_sets
from threedgp.runtime.progress import progress

WIDTHS = (3, 32, 64, 128)
HELD_OUT, BATCH, EPOCHS, MAX_LR = 2048, 64, 8, 3e-3
MEAN_PITCH, PITCH_UNIT = 1.31, 0.06
"""Mean and standard deviation of the true pitch, about; the network predicts the pitch in these units."""


class ViewNetwork(nn.Module):
    """Reads sine and cosine of the yaw, and the pitch, from images `[B, 3, R, R]` and labels `[B]`."""

    def __init__(self, resolution: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential()
        for before, width in pairwise(WIDTHS):
            for channels in (before, width):
                convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                self.layers.extend([convolution, nn.BatchNorm2d(width), nn.ReLU()])
            self.layers.append(nn.MaxPool2d(2))
        side = resolution >> (len(WIDTHS) - 1)
        self.head = nn.Sequential(
            nn.Linear(WIDTHS[-1] * side**2 + num_classes, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 3)
        )

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Map uint8 images and labels to `[B, 3]`."""
        classes = F.one_hot(labels, self.num_classes).float()
        return self.head(torch.cat([self.layers(images / 127.5 - 1).flatten(1), classes], dim=1))


def train(images: Tensor, labels: Tensor, targets: Tensor) -> ViewNetwork:
    """A network trained on real images; half of them are mirrored, with the sign of their yaw."""
    torch.manual_seed(0)
    network = ViewNetwork(images.shape[-1], int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=EPOCHS * steps)
    with progress("views: training", EPOCHS * steps, unit="steps") as bar:
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
                batch, wanted = images[rows], targets[rows]
                flip = torch.rand(BATCH) < 0.5
                batch = torch.where(flip[:, None, None, None], batch.flip(-1), batch)
                wanted[:, 0] *= torch.where(flip, -1, 1)
                loss = F.mse_loss(network(batch, labels[rows]), wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.advance()
    return network.eval()


@torch.inference_mode()
def read(network: ViewNetwork, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Yaw and pitch `[N]` in radians."""
    pieces = zip(images.split(256), labels.split(256), strict=True)
    sine, cosine, pitch = torch.cat([network(*piece) for piece in pieces]).unbind(dim=1)
    return torch.atan2(sine, cosine), pitch * PITCH_UNIT + MEAN_PITCH


def alignment(shown: Tensor, camera: Tensor, labels: Tensor) -> float:
    """Mean over classes of the length of the mean of exp(i (shown - camera)), for angles `[N]`."""
    turns = torch.polar(torch.ones_like(shown), shown - camera)
    return float(torch.stack([turns[labels == label].mean().abs() for label in labels.unique()]).mean())


def main(
    models: Annotated[list[str], typer.Argument(help="Model folders, or demo.")],
    params: Annotated[Path, typer.Option(help="Settings of the data set.")] = Path("params.yaml"),
    samples: Annotated[int, typer.Option(help="Generated images of each model.")] = 2048,
) -> None:
    """Print a table with a row for each model."""
    config = load_config(params)
    folder = Path("data") / config.dataset.name
    prepared, source = ShardFolder(folder / "prepared"), open_source(config.dataset, folder / "raw")
    real = RealImages(prepared, source, np.arange(prepared.manifest.rows))
    images = torch.from_numpy(real.images().whole())
    labels = torch.from_numpy(prepared.column("label").to_numpy())
    yaw, pitch = torch.from_numpy(real.cameras())[:, [YAW, PITCH]].unbind(dim=1)
    targets = torch.stack([yaw.sin(), yaw.cos(), (pitch - MEAN_PITCH) / PITCH_UNIT], dim=1)
    held_out, rest = map(torch.from_numpy, draw_sets(len(images), HELD_OUT, len(images), seed=0))
    network = train(images[rest], labels[rest], targets[rest])

    real_yaw, real_pitch = read(network, images[held_out], labels[held_out])
    error = torch.remainder(real_yaw - yaw[held_out] + math.pi, 2 * math.pi) - math.pi
    error_pitch = (real_pitch - pitch[held_out]).abs()
    print(f"Median error on held-out images, rad: yaw {error.abs().median():.3f}, pitch {error_pitch.median():.3f}\n")
    print("| views | yaw: distance | deviation | pitch: distance | deviation | alignment | with other cameras |")
    print("|---|---|---|---|---|---|---|")

    def row(name: str, shown: Tensor, height: Tensor, *alignments: float) -> None:
        yaw_distance, pitch_distance = wasserstein_distance(shown, real_yaw), wasserstein_distance(height, real_pitch)
        cells = [f"{yaw_distance:.3f}", f"{shown.std():.2f}", f"{pitch_distance:.3f}", f"{height.std():.3f}"]
        cells += [f"{value:.2f}" for value in alignments] or ["", ""]
        print("|", " | ".join([name, *cells]), "|")

    def alignments(shown: Tensor, camera: Tensor, labels: Tensor) -> tuple[float, float]:
        return alignment(shown, camera, labels), alignment(shown, camera.roll(1), labels)

    row("real", real_yaw, real_pitch, *alignments(real_yaw, yaw[held_out], labels[held_out]))
    for name in models:
        scenes = load(name).sample(range(samples))
        camera, label = torch.from_numpy(scenes.cameras), torch.tensor(scenes.labels)
        shown, height = read(network, torch.from_numpy(scenes.render(progress=True)).movedim(3, 1), label)
        row(name, shown, height, *alignments(shown, camera[:, YAW], label))
        row(f"cameras of {name}", camera[:, YAW], camera[:, PITCH])


if __name__ == "__main__":
    typer.run(main)
