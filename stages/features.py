"""Stage `features`: classifier features of every prepared image, and the statistics of the real set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config

app = typer.Typer(add_completion=False)


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Compute this process's share; what was written when it is stopped counts."""
    from threedgp.data.shards import ShardFolder
    from threedgp.features.extraction import write_features
    from threedgp.features.network import build_extractor
    from threedgp.runtime.device import choose_device
    from threedgp.runtime.processes import join_group

    settings, machine = config.features, config.machine
    with join_group() as group:
        with group.main_process_first():  # it fetches the weights
            extractor = build_extractor(
                settings.network,
                input_size=settings.input_size,
                weights=settings.weights,
                device=choose_device(machine.device),
                mirror=machine.mirror,
            )
        prepared, folder = ShardFolder(layout.prepared), scratch / "features"
        write_features(prepared, extractor, settings.batch_size, folder, machine.workers, group)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Compute the features that selection and the Frechet distance rest on, into data/<dataset>/features.

    Reads the prepared images; writes one feature vector per image, and count, mean and covariance of the whole set.
    A stopped run goes on with the first shard that is missing. machine.processes shares the shards out, one process
    for each GPU; torchrun, too. Their number changes nothing in the result.
    """
    with open_stage("features", params, shared=True) as stage:
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "features", stage.layout.features)


if __name__ == "__main__":
    app()
