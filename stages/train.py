"""Stage `train`: from shards to a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.harness import ParamsOption, Stage, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config, batch_problem
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import group_size

if TYPE_CHECKING:
    from threedgp.training.loop import Measure, Measured
    from threedgp.training.step import Trainer

app = typer.Typer(add_completion=False)

GRID = (4, 4)
"""Rows and columns of the grid of samples, each beside its depth if there is any, drawn during training."""


def _draw(trainer: Trainer, folder: Path) -> None:
    """The same scenes each time, as the averaged generator makes them, with depth, into a file named by kimg."""
    import torch

    from threedgp.models.sampler import render_scenes, sample_scenes
    from threedgp.visual.grids import beside, depth_colors, grid, write_png

    generator, config, count = trainer.average, trainer.config, GRID[0] * GRID[1]
    pictures, depths = [], []
    for start in range(0, count, trainer.piece):  # as many at once as a step holds, which fits into memory
        scenes = sample_scenes(generator, min(trainer.piece, count - start), config.train.seed, start=start)
        samples = render_scenes(generator, scenes, config.dataset.resolution)
        pictures.append(samples.images.cpu())
        if generator.has_density:
            depths.append(samples.depth[:, 0].cpu())
    tiles = torch.cat(pictures).permute(0, 2, 3, 1).numpy()
    if depths:
        tiles = beside(tiles, depth_colors(torch.cat(depths).numpy()))
    write_png(folder / f"kimg-{trainer.images / 1000:09.3f}.png", grid(tiles, GRID[1]))


def _measure(config: Config, layout: Layout, trainer: Trainer) -> Measure | None:
    """What measures the averaged generator at intervals, if the settings ask for it."""
    from threedgp.evaluation.monitor import measured_name, open_monitor
    from threedgp.training.loop import Measured

    settings = config.train
    if not settings.metric_kimg:
        return None
    group = trainer.group
    with group.main_process_first():  # it may have to fetch weights
        monitor = open_monitor(
            config, layout.prepared, layout.features, layout.shards, trainer.device, scenes_at_once=trainer.piece
        )

    def measure(trainer: Trainer, meanwhile: Callable[[], None]) -> Measured:
        found = monitor(trainer.average, config.dataset.resolution, group, meanwhile)
        network, count = monitor.extractor.name, monitor.count
        record = {measured_name(name, network, count): value for name, value in found.items()}
        return Measured(record, found[settings.best_by])

    return measure


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Train as one of the processes that the environment names; the first leaves model and curves in `scratch`."""
    import numpy as np

    from threedgp.data.loader import ShardLoader
    from threedgp.models.saving import save_model
    from threedgp.runtime.atomic import publish, write_json
    from threedgp.runtime.device import choose_device, write_machine
    from threedgp.runtime.processes import interruptible
    from threedgp.training.distributed import join_training_group
    from threedgp.training.health import HealthLog, findings
    from threedgp.training.loggers import RunLogs
    from threedgp.training.loop import prepare_trainer, train
    from threedgp.training.posthoc import FOLDER

    device = choose_device(config.machine.device)
    with join_training_group(device) as group:

        def open_loader(position: int) -> ShardLoader:
            return ShardLoader(
                layout.shards,
                config.train.batch_size,
                config.train.seed,
                position=position,
                rank=group.rank,
                world_size=group.size,
                workers=config.machine.workers,
            )

        with interruptible(should_stop):  # there is nothing to save yet, and a slow download must not keep it
            loader = open_loader(0)
            class_names = loader.class_names
            trainer = prepare_trainer(config, loader, device, group)
            loader.close()
            measure = _measure(config, layout, trainer)
            group.wait()  # a process that went on without one that was stopped would block in its first message
        curves, pictures = scratch / "curves", scratch / "pictures"
        with RunLogs(curves, config) as logs:
            outcome = train(
                trainer,
                open_loader,
                scratch / "states",
                open_log=lambda: HealthLog(config, logs.open()),
                should_stop=should_stop,
                show=lambda trainer: _draw(trainer, pictures),
                measure=measure,
            )
        if group.is_main:
            about = dict(class_names=class_names, kimg=outcome.images / 1000, discriminator=trainer.discriminator)
            save_model(scratch / "model", trainer.average, config, **about)
            curves.mkdir(exist_ok=True)
            (curves / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in outcome.curves))
            write_machine(curves / "machine.json", device)
            write_json(curves / "health.json", [found._asdict() for found in findings(outcome.curves, config)])
            kimg = np.array([record["kimg"] for record in outcome.curves])
            arrays = trainer.camera_histograms.arrays(config.camera)
            np.savez(curves / "camera_histograms.npz", kimg=kimg, **arrays)
            if pictures.is_dir():
                shutil.copytree(pictures, curves / "pictures", dirs_exist_ok=True)
            if (averages := scratch / "states" / FOLDER).is_dir():
                publish(averages, curves / FOLDER, link=True)


def _write_run(stage: Stage) -> None:
    """Write settings and data of the run into the folder of the model, for its card."""
    from threedgp.data.shards import ShardFolder
    from threedgp.runtime.atomic import write_json

    shards = ShardFolder(stage.layout.shards)
    data = {key: shards.meta[key] for key in ("dataset", "estimator", "embedder")} | {"rows": shards.manifest.rows}
    write_json(stage.scratch / "model" / "run.json", {"settings": stage.settings, "data": data})


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Train `model.kind` on the shards, and write the averaged generator, the curves and samples during training.

    States are saved in scratch every train.save_kimg and when the run is stopped (Ctrl-C, SIGTERM); the same command
    goes on from the newest one, also with another number of processes. With one process on a CPU the final model is
    the same, byte for byte, however often that happened. machine.processes trains with several; torchrun, too.
    """
    with open_stage("train", params, shared=True) as stage:
        if problem := batch_problem(stage.config, group_size(stage.config.machine.processes)):
            raise UserError(f"{problem}; change the batch, or machine.processes.")
        share_work(stage, _work, saves_itself=True)
        if stage.is_main:
            _write_run(stage)
            stage.publish(stage.scratch / "curves", stage.layout.training)
            stage.publish(stage.scratch / "model", stage.layout.model)


if __name__ == "__main__":
    app()
