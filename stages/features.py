"""Stage `features`: classifier features of all prepared images, and their statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config

app = typer.Typer(add_completion=False)


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Compute the share of this process; finished shards are kept when it is stopped."""
    from threedgp.data.shards import ShardFolder
    from threedgp.features.extraction import write_features
    from threedgp.features.network import configured_extractor
    from threedgp.runtime.device import choose_device
    from threedgp.runtime.processes import join_group

    settings, machine = config.features, config.machine
    with join_group() as group:
        with group.main_process_first():  # it downloads the weights
            extractor = configured_extractor(settings, choose_device(machine.device), machine.mirror)
        prepared, folder = ShardFolder(layout.prepared), scratch / "features"
        write_features(prepared, extractor, settings.batch_size, folder, machine.workers, group)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Compute the features for instance selection and the Frechet distance, into data/<dataset>/features.

    Writes one feature vector per prepared image, and count, mean and covariance of all of them. A stopped run resumes
    with the first missing shard. The shards are shared by machine.processes (or torchrun) processes, one per GPU; the
    result does not depend on their number.
    """
    with open_stage("features", params, shared=True) as stage:
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "features", stage.layout.features)


if __name__ == "__main__":
    app()
