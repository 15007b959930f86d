"""Stage `prepare`: square images of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config
from threedgp.config.fields import MIN_IMAGES
from threedgp.data.prepare import describe_rejects, prepare_set
from threedgp.data.shards import read_manifest
from threedgp.data.source import open_source
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import join_group
from threedgp.runtime.progress import say

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Crop the raw images to squares of `dataset.resolution` pixels, into data/<dataset>/prepared.

    Unusable images are listed with a reason in rejects.parquet. A stopped run resumes with the first missing shard. The
    shards are shared by machine.processes (or torchrun) processes with machine.workers threads each; the result does
    not depend on their number.
    """
    with open_stage("prepare", params, shared=True) as stage:
        share_work(stage, _work)
        if stage.is_main:
            prepared = stage.scratch / "prepared"
            count = read_manifest(prepared).rows
            for line in describe_rejects(prepared):
                say(f"prepare: {line}")
            if count < MIN_IMAGES:
                path = stage.config.dataset.path
                raise UserError(
                    f"dataset.path: {path} has {count} usable images; evaluation needs {MIN_IMAGES}, so add some."
                )
            stage.publish(prepared, stage.layout.prepared)


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Prepare the share of this process; finished shards are kept when it is stopped."""
    with join_group() as group:
        source = open_source(config.dataset, layout.raw)
        prepare_set(
            source,
            scratch / "prepared",
            config.prepare,
            config.dataset.resolution,
            config.machine.workers,
            group,
            config.machine.max_reject_fraction,
        )


if __name__ == "__main__":
    app()
