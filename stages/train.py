"""Stage `train`: 3DGP from shards to a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.harness import Interrupted, ParamsOption, open_stage
from stages.layout import Layout
from threedgp.config import Config

if TYPE_CHECKING:
    from threedgp.training.trainer import Trainer

app = typer.Typer(add_completion=False)

GRID = (4, 4)
"""Rows and columns of pictures, each beside its depth, that show how training goes."""


def _dvclive(folder: Path) -> Callable[[dict[str, float]], None]:
    """A logger that writes DVCLive's curves into an empty folder, if it is installed."""
    try:
        from dvclive import Live
    except ImportError:
        return lambda record: None
    shutil.rmtree(folder, ignore_errors=True)
    live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)

    def log(record: dict[str, float]) -> None:
        live.step = round(record["kimg"], 3)
        for name, value in record.items():
            if name != "kimg":
                live.log_metric(name, value)
        live.make_summary()

    return log


def _draw(trainer: Trainer, folder: Path) -> None:
    """The same scenes each time, as the averaged generator makes them, with depth, into a file named by kimg."""
    import torch

    from threedgp.models.scenes import sample_scenes
    from threedgp.visual.grids import beside, depth_colors, grid, write_png

    generator, config = trainer.average, trainer.config
    scenes = sample_scenes(generator, GRID[0] * GRID[1], config.train.seed)
    cameras = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    planes = generator.make_planes(generator.map(scenes.z, scenes.labels))
    seen = generator.render(planes, cameras, config.dataset.resolution)
    rgb = (seen.rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    tiles = beside(rgb.cpu().numpy(), depth_colors(seen.depth[:, 0].cpu().numpy()))
    write_png(folder / f"kimg-{trainer.images / 1000:09.3f}.png", grid(tiles, GRID[1]))


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Train as one of the processes that the environment names; the first leaves model and curves in `scratch`."""
    from threedgp.data.loader import ShardLoader
    from threedgp.device import choose_device
    from threedgp.models.saving import save_model
    from threedgp.training.distributed import join_team
    from threedgp.training.loop import prepare_trainer, train

    with join_team(choose_device(config.machine.device)) as (team, device):

        def open_loader(position: int) -> ShardLoader:
            return ShardLoader(
                layout.shards,
                config.train.batch_size,
                config.train.seed,
                position=position,
                rank=team.rank,
                world_size=team.size,
                workers=config.machine.workers,
            )

        loader = open_loader(0)
        class_names = loader.class_names
        trainer = prepare_trainer(config, loader, device, team)
        loader.close()
        curves, pictures = scratch / "curves", scratch / "pictures"
        history = train(
            trainer,
            open_loader,
            scratch / "states",
            open_log=lambda: _dvclive(curves),
            should_stop=should_stop,
            show=lambda trainer: _draw(trainer, pictures),
        )
        if team.leads:
            save_model(scratch / "model", trainer.average, config, class_names=class_names, kimg=trainer.images / 1000)
            curves.mkdir(exist_ok=True)
            (curves / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
            if pictures.is_dir():
                shutil.copytree(pictures, curves / "pictures", dirs_exist_ok=True)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Train 3DGP on the shards, and write the averaged generator, the curves and pictures on the way.

    States are saved in scratch every train.save_kimg and when the run is stopped (Ctrl-C, SIGTERM); the same command
    goes on from the newest one, also with another number of processes. With one process on a CPU the final model is
    the same, byte for byte, however often that happened. machine.processes trains with several; torchrun, too.
    """
    with open_stage("train", params) as stage:
        from threedgp.training.distributed import Stopped, run_processes, started_by_torchrun

        count, arguments = stage.config.machine.processes, (stage.config, stage.layout, stage.scratch)
        stage.defer_interrupts()
        try:
            if count == 1 or started_by_torchrun():
                _work(lambda: stage.interrupted, *arguments)
            else:
                run_processes(count, _work, arguments, lambda: stage.interrupted)
        except Stopped:
            raise Interrupted from None
        if stage.leads:
            stage.publish(stage.scratch / "curves", stage.layout.training)
            stage.publish(stage.scratch / "model", stage.layout.model)


if __name__ == "__main__":
    app()
