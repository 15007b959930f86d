"""Stage `train`: 3DGP from shards to a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import Interrupted, ParamsOption, open_stage

app = typer.Typer(add_completion=False)


def _dvclive(folder: Path) -> Callable[[dict[str, float]], None]:
    """A logger that writes DVCLive's curves, if it is installed; the history is replayed into a fresh folder."""
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


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Train 3DGP on the shards, and write the averaged generator and the curves.

    States are saved in scratch every train.save_kimg and when the run is stopped (Ctrl-C, SIGTERM); the same command
    goes on from the newest one. On a CPU the final model is the same, byte for byte, however often that happened.
    """
    with open_stage("train", params) as stage:
        from threedgp.data.loader import ShardLoader
        from threedgp.device import choose_device
        from threedgp.models.saving import save_model
        from threedgp.training.loop import Stopped, prepare_trainer, train

        config, layout = stage.config, stage.layout
        device = choose_device(config.machine.device)

        def open_loader(position: int) -> ShardLoader:
            return ShardLoader(
                layout.shards,
                config.train.batch_size,
                config.train.seed,
                position=position,
                workers=config.machine.workers,
            )

        loader = open_loader(0)
        class_names = loader.class_names
        trainer = prepare_trainer(config, loader, device)
        loader.close()
        stage.defer_interrupts()
        curves = stage.scratch / "curves"
        try:
            history = train(
                trainer,
                open_loader,
                stage.scratch / "states",
                log=_dvclive(curves),
                should_stop=lambda: stage.interrupted,
            )
        except Stopped:
            raise Interrupted from None

        model = stage.scratch / "model"
        save_model(model, trainer.average, config, class_names=class_names, kimg=trainer.images / 1000)
        curves.mkdir(exist_ok=True)
        (curves / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
        stage.publish(curves, layout.training)
        stage.publish(model, layout.model)


if __name__ == "__main__":
    app()
