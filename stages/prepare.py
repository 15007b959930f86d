"""Stage `prepare`: square images of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config
from threedgp.data.prepare import prepare_set
from threedgp.data.source import open_source
from threedgp.runtime.processes import join_group

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Crop the raw images to squares of `dataset.resolution` pixels, into data/<dataset>/prepared.

    Pictures that cannot be used are listed with a reason in rejects.parquet. A stopped run goes on with the first
    shard that is missing. machine.workers threads share the images, machine.processes (or torchrun) the shards; their
    numbers change nothing in the result.
    """
    with open_stage("prepare", params, shared=True) as stage:
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "prepared", stage.layout.prepared)


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Prepare this process's share; what was written when it is stopped counts."""
    with join_group() as group:
        source = open_source(config.dataset, layout.raw)
        prepared, machine = scratch / "prepared", config.machine
        resolution, most = config.dataset.resolution, machine.max_reject_fraction
        prepare_set(source, prepared, config.prepare, resolution, machine.workers, group, most)


if __name__ == "__main__":
    app()
