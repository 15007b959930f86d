"""Stage `prepare`: square pictures of one size."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.prepare import prepare_set
from threedgp.data.sources.registry import open_source

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Crop the raw pictures to squares of `dataset.resolution` pixels, into data/<dataset>/prepared.

    Pictures that cannot be used are listed with a reason in rejects.parquet. A stopped run goes on with the first
    shard that is missing.
    """
    with open_stage("prepare", params) as stage:
        config, prepared = stage.config, stage.scratch / "prepared"
        source = open_source(config.dataset, stage.layout.raw)
        prepare_set(source, prepared, config.prepare, config.dataset.resolution, config.machine.workers)
        stage.publish(prepared, stage.layout.prepared)


if __name__ == "__main__":
    app()
